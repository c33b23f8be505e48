"""What the supervisor hands to the ranks, records of them, and says of a stall or of a disk that fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from ranks import PLAIN, Ranks, Seen, read_all, wait_for
from supervised import HOROVODRUN, MPI, PROGRAM, supervise_program

from saman.configs.errors import EnvironmentLack, ExitCode
from saman.launcher.plan.placement import Placement
from saman.runs.events import State
from saman.runs.ranks.attempt_ranks import read_records

pytestmark = pytest.mark.ranks
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
HOSTILE = "sp ace 'q' \"d\" $(touch pwned) `touch pwned` ; & | * ? , = \\ % ü\nnew\tline"


class _mounted:  # noqa: N801  (used as a context manager)
    """A tiny file system of its own at a folder."""

    def __init__(self, folder: Path, options: str) -> None:
        self.folder, self.options = folder, options

    def __enter__(self) -> None:
        self.folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", self.options, "tmpfs", str(self.folder)], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("this root may not mount")

    def __exit__(self, *_: object) -> None:
        wait_for(lambda: subprocess.run(["umount", str(self.folder)], check=False).returncode == 0)


@pytest.mark.parametrize("starter", ["processes", MPI, HOROVODRUN])
def test_hostile_names_arrive_intact_and_nothing_is_executed(tmp_path: Path, starter: str) -> None:
    folder = tmp_path / HOSTILE.replace("/", "-")
    folder.mkdir()
    facts = PLAIN if starter != "horovodrun" else None
    program = """
import json, os, sys
said = {"argv": sys.argv[1:], "env": os.environ["HOSTILE"], "cwd": os.getcwd()}
said |= {"rank": os.environ["SAMAN_FIRST_RANK"], "size": os.environ["SAMAN_SIZE"]}
said |= {"cores": sorted(os.sched_getaffinity(0)), "threads": os.environ["OMP_NUM_THREADS"]}
open(f"said-{said['rank']}.json", "w").write(json.dumps(said))
"""
    ranks = Ranks(folder)
    outcome = ranks.run(program, HOSTILE, "", "-x", starter=starter, environment={"HOSTILE": HOSTILE}, facts=facts)
    assert outcome.state is State.COMPLETED, outcome
    said = read_all(folder)
    assert [(rank["rank"], rank["size"]) for rank in said] == [("0", "2"), ("1", "2")]
    assert all(
        rank["argv"] == [HOSTILE, "", "-x"] and rank["env"] == HOSTILE and rank["cwd"] == str(folder) for rank in said
    )
    assert all(len(rank["cores"]) == int(rank["threads"]) for rank in said)
    if len(os.sched_getaffinity(0)) >= 2:
        assert not set(said[0]["cores"]) & set(said[1]["cores"])
    assert not list(tmp_path.rglob("pwned"))
    assert ranks.nobody_is_left()
    assert subprocess.run(["bash", "-n", str(outcome.run.attempt(1).command)], check=False).returncode == 0


@pytest.mark.parametrize("starter", ["processes", MPI])
def test_the_command_that_is_shown_can_be_pasted(ranks: Ranks, starter: str) -> None:
    program = "import os; open(f'said-{os.environ[\"SAMAN_FIRST_RANK\"]}.json', 'w').write('{}')"
    outcome = ranks.run(program, HOSTILE, starter=starter)
    for file in ranks.folder.glob("said-*.json"):
        file.unlink()
    text = outcome.run.attempt(1).command.read_text()
    assert subprocess.run(["bash", "-c", text], cwd="/", check=False, timeout=60).returncode == 0
    assert len(read_all(ranks.folder)) == 2


def test_more_ranks_than_cores_share_them(ranks: Ranks) -> None:
    count = 2 * len(os.sched_getaffinity(0)) + 1
    outcome = ranks.run("import os; assert len(os.sched_getaffinity(0)) == 1", ranks=count)
    assert outcome.state is State.COMPLETED
    notices = [str(event.facts["text"]) for event in outcome.run.events() if event.kind == "notice"]
    assert any("cores are shared" in text for text in notices)


@pytest.mark.mpi
@pytest.mark.skipif(PLAIN.mpi is None, reason="no mpirun here")
def test_mpi_does_not_starve_more_ranks_than_cores(ranks: Ranks) -> None:
    pytest.importorskip("mpi4py")
    program = """
from mpi4py import MPI
import time
world = MPI.COMM_WORLD
began = time.monotonic()
for step in range(100):
    sum(range(20000))
    world.allreduce(step)
print("size", world.size, "seconds", time.monotonic() - began)
"""
    view = Seen()
    outcome = ranks.run(program, ranks=4 * len(os.sched_getaffinity(0)), starter="mpirun", view=view)
    assert outcome.state is State.COMPLETED, outcome
    assert sum(f"size {4 * len(os.sched_getaffinity(0))} " in text for _, text in view.lines) == 4 * len(
        os.sched_getaffinity(0)
    )


@pytest.mark.parametrize("action", ["report", "abort"])
def test_a_stopped_rank_is_reported_and_aborted_where_asked(ranks: Ranks, action: str) -> None:
    program = (
        PROGRAM
        + """
if rank == 1:
    child.kill()
    subprocess.Popen(["sh", "-c", f"sleep 12; kill -CONT {os.getpid()}"], start_new_session=True)
    os.kill(os.getpid(), signal.SIGSTOP)
else:
    end = time.monotonic() + 12
    while time.monotonic() < end: pass
"""
    )
    view = Seen()
    outcome = ranks.run(program, view=view, on_stall=action, stall_seconds={"train": 4})
    stalls = [event.facts for event in outcome.run.events() if event.kind == "stalled"]
    assert [(stall["rank"], stall["phase"]) for stall in stalls] == [(1, "script")]
    assert any("rank 1: no progress for" in text and "stopped (SIGSTOP)" in text for text in view.said)
    assert outcome.state is (State.FAILED if action == "abort" else State.COMPLETED), outcome
    if action == "abort":
        assert "stopped after a stall: rank 1" in outcome.message
        assert outcome.seconds < 25
    assert ranks.nobody_is_left(seconds=0.5)


def test_a_training_that_stalls_is_named_by_rank_phase_and_step(ranks: Ranks) -> None:
    program = """
import os, time
from saman.runs.ranks.heartbeats import Heartbeat
heartbeat = Heartbeat.from_environment()
rank = int(os.environ["SAMAN_FIRST_RANK"])
for step in range(1, 12 - rank):
    heartbeat.beat("train", step=step, epoch=1, total_steps=20)
    time.sleep(0.05)
heartbeat.beat("checkpoint" if rank else "train", step=step, epoch=1, total_steps=20)
time.sleep(300)
"""
    view = Seen()
    outcome = supervise_program(
        ranks, program, view=view, on_stall="abort", stall_seconds={"train": 2, "checkpoint": 2}
    )
    assert outcome.state is State.FAILED
    assert "rank 1: no progress for" in outcome.message and "in phase checkpoint at step 10" in outcome.message
    assert view.steps[-1].step == 11 and view.steps[-1].total_steps == 20 and view.steps[-1].behind == 1
    assert ranks.nobody_is_left(seconds=0.5)


def test_an_experiment_without_gpus_sees_none_and_a_script_sees_what_there_is(ranks: Ranks) -> None:
    program = "import os; print('gpus', os.environ.get('CUDA_VISIBLE_DEVICES'))"
    view = Seen()
    supervise_program(ranks, program, view=view)
    assert (0, "gpus -1") in view.lines
    view = Seen()
    ranks.run(program, view=view)
    assert (0, f"gpus {os.environ.get('CUDA_VISIBLE_DEVICES')}") in view.lines


@needs_root
def test_a_read_only_folder_is_a_lack_of_the_environment(ranks: Ranks) -> None:
    with _mounted(ranks.folder / "runs", "ro"), pytest.raises(EnvironmentLack, match="read-only") as caught:
        ranks.run("print('never')")
    assert caught.value.exit_code == ExitCode.ENVIRONMENT


@needs_root
def test_a_full_disk_stops_the_run_and_is_said(ranks: Ranks) -> None:
    program = PROGRAM + "while True: print('x' * 5000, flush=True); time.sleep(0.001)"
    with _mounted(ranks.folder / "runs", "size=1m"):
        with pytest.raises(EnvironmentLack, match="No space left on device") as caught:
            ranks.run(program)
        assert caught.value.exit_code == ExitCode.ENVIRONMENT
        assert ranks.nobody_is_left(seconds=0.5)


def test_the_placement_that_was_found_is_recorded(ranks: Ranks) -> None:
    outcome = ranks.run("pass", ranks=3)
    attempt = outcome.run.attempt(1)
    records = read_records(attempt)
    assert list(records) == [0, 1, 2]
    for rank, record in records.items():
        assert (record.first_rank, record.code, len(record.cores)) == (rank, 0, 1)
        assert record.node and record.pid and record.started and record.ended
    import json

    assert Placement.from_json(json.loads(attempt.placement.read_text())).size == 3
