"""Results on a node's own disk are in the run folder at the end, also after a failure or a signal; never by halves."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, site, standing, submitted, told, wait_for
from tests.slurm.stubs import stubs

from saman.configs.errors import UserError
from saman.configs.schemas.cluster import StageOut
from saman.launcher.plan.environment import clean_environment, forwarded
from saman.runs.folder import RunFolder
from saman.slurm.job.stage_out import main, stage_out, staging_out
from saman.slurm.site import client
from saman.slurm.submission.job_script import environment_of


def test_results_are_copied_under_the_name_of_the_node(tmp_path: Path) -> None:
    local = tmp_path / "saman-7" / "results"
    local.mkdir(parents=True)
    (local / "scores.csv").write_text("1\n")
    sentence, whole = stage_out(local, tmp_path / "staged", "node1", 60)
    assert whole and sentence == f"stage-out: node1: 1 files, 2 bytes in {tmp_path}/staged/node1"
    assert not local.parent.exists()


def test_too_little_time_is_said_and_nothing_is_lost(tmp_path: Path) -> None:
    local = tmp_path / "saman-7" / "results"
    local.mkdir(parents=True)
    (local / "scores.csv").write_text("1\n")
    sentence, whole = stage_out(local, tmp_path / "staged", "node1", -1)
    assert not whole and f"the results are still in {local}" in sentence and "node1.partial" in sentence
    assert not (tmp_path / "staged/node1").exists() and (local / "scores.csv").exists()


def test_a_node_without_results_says_nothing(tmp_path: Path) -> None:
    local = tmp_path / "saman-7" / "results"
    local.mkdir(parents=True)
    assert stage_out(local, tmp_path / "staged", "node1", 60) == ("", True)
    assert not (tmp_path / "staged").exists()


def test_a_folder_that_somebody_planted_is_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "saman-7").symlink_to(tmp_path / "elsewhere")
    assert main([str(tmp_path), "1", "60", str(tmp_path / "saman-7" / "results")]) == 1
    assert "nothing is copied from there" in capsys.readouterr().out
    assert not list((tmp_path / "elsewhere").iterdir())


def test_ranks_are_told_the_folder_and_the_nearest_adapter() -> None:
    local = Path.cwd().parent / "node-local"
    cluster = site(node_local=str(local), stage_out={}, network={"nearest_adapter": True})
    own = environment_of(cluster)
    assert own["SAMAN_LOCAL_RESULTS"] == f"{local}/saman-$SLURM_JOB_ID/results"
    kept = clean_environment(own, Path.cwd())  # a run drops the variables of a run around it
    assert {"SAMAN_LOCAL_RESULTS", "SAMAN_NEAREST_ADAPTER"} <= set(kept) & set(forwarded(own))


def test_stage_out_needs_the_node_local_folder() -> None:
    with pytest.raises(UserError) as refused:
        site(stage_out={})
    assert refused.value.where == "minicluster: node_local"


SRUN = 'while [[ $1 == -* ]]; do shift; done; exec "$@"'


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[RunFolder, dict[str, str]]:
    """A run in a job of this machine alone: its steps start here."""
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"srun": SRUN}))
    monkeypatch.setenv("SLURMD_NODENAME", "node1")
    run = RunFolder.create(tmp_path / "runs", bash("staged", "true", tmp_path), code_path=[], models_dir="models")
    return run, {"SAMAN_LOCAL_RESULTS": str(tmp_path / "saman-7" / "results")}


def test_the_folder_is_there_for_the_ranks_and_copied_when_they_fail(
    job: tuple[RunFolder, dict[str, str]], tmp_path: Path
) -> None:
    run, environ = job
    said: list[str] = []
    with pytest.raises(RuntimeError), staging_out(run, StageOut(seconds=20), ["node1"], environ, said.append):
        run.new_attempt()
        (tmp_path / "saman-7/results/scores.csv").write_text("1\n")
        raise RuntimeError("a rank failed")
    assert (run.attempt(1).staged_folder / "node1/scores.csv").read_text() == "1\n"
    assert said == [f"stage-out: node1: 1 files, 2 bytes in {run.attempt(1).staged_folder}/node1"]
    assert not (tmp_path / "saman-7").exists()
    assert any(event.kind == "notice" for event in run.events())


def test_after_sigterm_the_copy_waits_for_the_ranks_of_the_node_only(
    job: tuple[RunFolder, dict[str, str]], tmp_path: Path
) -> None:
    run, environ = job
    attempt = run.new_attempt()
    local = tmp_path / "saman-7/results"
    command = [sys.executable, "-m", "saman.slurm.job.stage_out", str(run.path), "1", "20", str(local)]
    rank = subprocess.Popen(
        ["bash", "-c", f"sleep 2; echo 1 >{local}/scores.csv"],
        env={"PATH": "/usr/bin:/bin", "SAMAN_RUN": str(run.path), "SAMAN_ATTEMPT": "1"},
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as copies:
        assert copies.stdout is not None and copies.stdout.readline() == "ready\n"
        copies.send_signal(signal.SIGTERM)  # Slurm's, to every process; standard input stays open
        assert copies.wait(20) == 0
    assert rank.wait(1) == 0
    assert (attempt.staged_folder / "node1/scores.csv").read_text() == "1\n"


def test_a_site_without_stage_out_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunFolder.create(tmp_path / "runs", bash("staged", "true", tmp_path), code_path=[], models_dir="models")
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("started a process"))
    with staging_out(run, None, ["node1"], {"SAMAN_LOCAL_RESULTS": "/x"}, pytest.fail):
        pass


# ---- on the minicluster --------------------------------------------------------------------------------------


def staging(shared: Path, **more: Any) -> Any:
    """A site whose nodes have a disk of their own: a folder outside the shared one."""
    local = shared.parent / "node-local"
    local.mkdir(exist_ok=True)
    return site(node_local=str(local), stage_out={"seconds": 20}, **more)


def staged(run: RunFolder, nodes: Sequence[str]) -> dict[str, str]:
    folder = run.attempt(1).staged_folder
    return {node: (folder / node / "scores.csv").read_text() for node in nodes if (folder / node).is_dir()}


WRITES = 'echo "from $SAMAN_NODE" >"$SAMAN_LOCAL_RESULTS/scores.csv"; '


@pytest.mark.slurm
def test_the_results_of_a_rank_that_fails_and_of_its_peers_are_in_the_run_folder(minicluster: Minicluster) -> None:
    # the nodes of the minicluster share their disks, so each writes to a folder of its own
    text = WRITES + '[ "$SAMAN_PROCESS" = 1 ] && exit 7; sleep 30'
    run = submitted(
        bash("staged", text, minicluster.shared, nodes=1, ranks_per_node=2),
        staging(minicluster.shared),
        minicluster.shared,
    ).run
    assert wait_for(run).state == "failed", told(run)
    until(lambda: staged(run, ["node1", "node2", "node3", "node4"]), 30)
    (found,) = staged(run, ["node1", "node2", "node3", "node4"]).items()
    assert found[1] == f"from {found[0]}\n"
    assert any("stage-out" in event.text for event in map(_Note, run.events()))
    assert not list((minicluster.root / "node-local").iterdir())


@pytest.mark.slurm
def test_the_results_of_a_cancelled_job_are_in_the_run_folder(minicluster: Minicluster) -> None:
    trap = "trap 'sleep 1; echo more >>\"$SAMAN_LOCAL_RESULTS/scores.csv\"; exit 0' TERM; "
    text = trap + WRITES + "sleep 60 & wait"  # the trap first: the file says that the job may be cancelled
    done = submitted(bash("staged-cancel", text, minicluster.shared), staging(minicluster.shared), minicluster.shared)
    until(lambda: standing(done.run).state == "running", 60)
    until(lambda: list((minicluster.root / "node-local").glob("saman-*/results/scores.csv")), 30)
    client.scancel([done.job])
    until(lambda: staged(done.run, ["node1", "node2", "node3", "node4"]), 40)
    (found,) = staged(done.run, ["node1", "node2", "node3", "node4"]).items()
    assert found[1] == f"from {found[0]}\nmore\n"


class _Note:
    def __init__(self, event: Any) -> None:
        self.text = str(event.facts.get("text", ""))
