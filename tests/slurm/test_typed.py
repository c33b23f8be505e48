"""What a person types about jobs of a real Slurm: submit --follow, status, logs, cancel, wait, resume, run by run."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, saman, site, submit_line, told, wait_for
from tests.slurm.stubs import calls, stubs

from saman.slurm.site import client
from saman.slurm.submission import planning
from saman.slurm.submission import submit as slurm
from saman.slurm.submission.arrays import submit_many

pytestmark = pytest.mark.slurm

PASSED_ON = 'PATH=$REAL_PATH exec "$(basename "$0")" "$@"'


@pytest.fixture(scope="module")
def home(minicluster: Minicluster) -> Path:
    folder = minicluster.shared / "typed"
    folder.mkdir()
    return folder


def test_submit_follow_shows_the_chief_and_ends_with_the_runs_exit_code(home: Path) -> None:
    site_options = ["--cluster", "minicluster", "--partition", "main", "--no-snapshot", "--follow"]
    done = saman(home, "submit", *site_options, "--", "bash", "-c", "echo first; sleep 1; echo second")
    lines = [line for line in done.stdout.splitlines() if not line.startswith("# ")]  # without the states of the run
    assert done.returncode == 0 and lines[-2:] == ["first", "second"]
    done = saman(home, "submit", *site_options, "--", "bash", "-c", "echo 'last words'; exit 4")
    assert done.returncode == 1 and "last words\n" in done.stdout
    assert "# failed: rank 0 on node" in done.stdout and "failed first: exit code 4" in done.stdout


def test_a_pending_run_is_cancelled_and_resumed_and_an_ended_one_is_left_alone(home: Path) -> None:
    run = submit_line(home, "exit 0", "--set", 'sbatch=["--begin=now+1hour"]')
    refused = saman(home, "resume", run.id)
    assert refused.returncode == 2 and "this run is queued" in refused.stderr
    assert "waits for its begin time" in saman(home, "status", run.id).stdout
    assert "is cancelled" in saman(home, "cancel", run.id).stdout
    assert run.state.value == "cancelled"
    assert saman(home, "wait", run.id).returncode == 1
    values = (run.path / "slurm" / "cluster.yaml").read_text()
    (run.path / "slurm" / "cluster.yaml").write_text(values.replace("--begin=now+1hour", "--begin=now"))
    assert "continues it as attempt 1" in saman(home, "resume", run.id).stdout
    assert saman(home, "wait", run.id, "--every", "0.5").returncode == 0, told(run)
    assert "has completed already" in saman(home, "cancel", run.id).stdout
    refused = saman(home, "resume", run.id)
    assert refused.returncode == 2 and "has completed" in refused.stderr
    assert saman(home, "cancel", "no-such-run").returncode == 2


def test_a_running_run_is_cancelled_and_goes_on_when_resumed(home: Path) -> None:
    run = submit_line(home, "echo attempt $SAMAN_ATTEMPT; [ $SAMAN_ATTEMPT -gt 1 ] || sleep 300")
    until(lambda: any(event.kind == "rank_started" for event in run.events()), 30)
    until(lambda: "program running" in saman(home, "status", run.id).stdout, 30)  # its first sign of life may lag
    assert "is cancelled" in saman(home, "cancel", run.id).stdout
    assert wait_for(run, seconds=30).state == "cancelled", told(run)
    assert "continues it as attempt 2" in saman(home, "resume", run.id).stdout
    followed = saman(home, "logs", "-f", run.id)
    assert (followed.returncode, followed.stdout) == (0, "attempt 1\nattempt 2\n")
    assert json.loads(saman(home, "status", run.id, "--json").stdout)[0]["state"] == "completed"


def test_tasks_of_an_array_are_cancelled_and_resumed_one_by_one(home: Path) -> None:
    texts = ["[ $SAMAN_ATTEMPT -gt 1 ] || sleep 300", "exit 0", "exit 0"]
    plans = [planning.plan(bash("array", text, home), site(), home / "runs", "main", {}) for text in texts]
    done = submit_many(plans, lambda plan: slurm.create_run(plan, (), None), concurrency=1)
    first, second, third = (submission.run for submission in done)
    until(lambda: any(event.kind == "rank_started" for event in first.events()), 30)
    said = saman(home, "status", first.id, second.id, third.id).stdout
    assert "only so many tasks of this array" in said and "3 runs: 1 running, 2 queued" in said
    assert saman(home, "cancel", first.id, third.id).stdout.count("is cancelled") == 2
    assert wait_for(second).state == "completed", told(second)  # its neighbours' end is not its own
    assert [wait_for(run).state for run in (first, third)] == ["cancelled", "cancelled"]
    resumed = saman(home, "resume", first.id, second.id, third.id).stdout
    assert resumed.count("continues it") == 2 and f"{second.id}: this run has completed" in resumed
    assert saman(home, "wait", first.id, second.id, third.id, "--every", "0.5").returncode == 0
    assert "_" not in json.loads(saman(home, "status", first.id, "--json").stdout)[0]["job"]


def test_waiting_asks_slurm_a_few_times_however_often_it_looks(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = home / "counted"
    stubs(counted, dict.fromkeys(("squeue", "sacct", "scancel"), PASSED_ON))
    monkeypatch.setenv("REAL_PATH", os.environ["PATH"])
    monkeypatch.setenv("PATH", f"{counted}:{os.environ['PATH']}")
    run = submit_line(home, "sleep 8")
    assert saman(home, "wait", run.id, "--every", "0.1", "--timeout", "100").returncode == 0, told(run)
    asked = [call for call in calls(counted) if not call.startswith("scancel")]
    assert 1 <= len(asked) <= 12, asked
    assert saman(home, "wait", run.id, "--every", "0").returncode == 2
    others = [submit_line(home, "sleep 300", "--set", 'sbatch=["--begin=now+1hour"]') for _ in range(3)]
    saman(home, "cancel", *(other.id for other in others))
    assert len([call for call in calls(counted) if call.startswith("scancel")]) == 1


def test_nothing_typed_is_left_running(no_jobs: Minicluster) -> None:
    assert not [job for job in client.queue().values() if job.name == "array" and not job.state.ended]
