"""Jobs on a real Slurm that are cancelled, lose nodes or meet a limit: requeued where they should be."""

from __future__ import annotations

import os
import sys
import time

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, happened, nodes_lost, printed, site, standing, submitted, told, wait_for

from saman.jobs.cancel import cancel_runs
from saman.runs.folder import RunFolder
from saman.runs.ranks.attempt_ranks import read_record
from saman.slurm.site import client
from saman.slurm.submission import planning
from saman.slurm.submission import submit as slurm
from saman.slurm.submission.arrays import submit_many

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module", autouse=True)
def late(minicluster: Minicluster) -> RunFolder:
    """A run that will meet its time limit, submitted first, because a minute is the shortest that Slurm knows."""
    spec = bash("late", "sleep 300", minicluster.shared, time_limit="00:01:00")
    return submitted(spec, site(requeue={"by": "none"}), minicluster.shared, exclude=("node1", "node2")).run


@pytest.mark.parametrize("how", ["saman cancel", "scancel", "scancel a queued job"])
def test_a_cancelled_run_is_cancelled_and_not_requeued(minicluster: Minicluster, how: str) -> None:
    cluster = site(sbatch=["--begin=now+1hour"] if "queued" in how else [])
    done = submitted(bash("endless", "sleep 300", minicluster.shared, nodes=2), cluster, minicluster.shared)
    if "queued" not in how:
        until(lambda: any(event.kind == "rank_started" for event in done.run.events()), 30)
    if how == "saman cancel":
        list(cancel_runs([done.run]))
    else:
        client.scancel([done.job])
    status = wait_for(done.run, seconds=60)
    assert status.state == "cancelled", told(done.run)
    until(lambda: client.queue()[done.job].state.ended, 30)
    assert client.queue()[done.job].state.value == "cancelled"


def test_a_node_that_dies_twice_is_not_used_a_third_time(minicluster: Minicluster) -> None:
    text = "[ $SAMAN_ATTEMPT -gt 2 ] && exit 0; sleep 300"
    run = submitted(bash("unlucky", text, minicluster.shared, nodes=2), site(), minicluster.shared).run
    others = "node3,node4"
    for attempt in (1, 2):
        started = [("rank_started", attempt)] * 2
        until(lambda wanted=started: happened(run, wanted), 60)  # type: ignore[misc]
        minicluster.run("scontrol", "update", f"NodeName={others}", "State=DRAIN", "Reason=kept-away-by-a-test")
        minicluster.down_node("node2")
        until(lambda number=attempt: nodes_lost(run) >= number, 60)  # type: ignore[misc]
        minicluster.up_node("node2")
        if attempt == 2:  # until then the run can only come back to the node that it lost
            until(lambda: happened(run, [("preempted", None)]), 60)
            minicluster.run("scontrol", "update", f"NodeName={others}", "State=RESUME")
    status = wait_for(run)
    assert status.state == "completed", told(run)
    assert [event.facts["node"] for event in run.events() if event.kind == "node_failed"] == ["node2", "node2"]
    last = [read_record(run.attempts()[-1], rank) for rank in (0, 1)]
    assert all(record and record.node != "node2" for record in last)


def test_a_run_whose_first_node_dies_goes_on_by_itself(minicluster: Minicluster) -> None:
    text = "[ $SAMAN_ATTEMPT -gt 1 ] && exit 0; sleep 300"
    run = submitted(bash("headless", text, minicluster.shared, nodes=2), site(), minicluster.shared).run
    until(lambda: happened(run, [("rank_started", 1)] * 2), 60)
    node = (read_record(run.attempt(1), 0) or pytest.fail("no record")).node
    try:
        minicluster.down_node(node)
        assert wait_for(run).state == "completed", told(run)
    finally:
        minicluster.up_node(node)
    assert [event.facts["node"] for event in run.events() if event.kind == "node_failed"] == [node]


def test_without_scontrol_a_follow_up_goes_on_or_goes_away(minicluster: Minicluster) -> None:
    cluster = site(requeue={"by": "follow-up", "attempts": 3, "seconds_before_end": 30})
    text = "[ $SAMAN_ATTEMPT -gt 1 ] && exit 0; sleep 1; exit 85"
    again = submitted(bash("again", text, minicluster.shared), cluster, minicluster.shared)
    once = submitted(bash("once", "exit 0", minicluster.shared), cluster, minicluster.shared)
    broken = submitted(bash("broken", "exit 4", minicluster.shared), cluster, minicluster.shared)
    assert len(again.follow_ups) == 2
    assert wait_for(again.run).state == "completed", told(again.run)
    assert wait_for(once.run).state == "completed" and wait_for(broken.run).state == "failed"
    waiting = [*again.follow_ups, *once.follow_ups, *broken.follow_ups]
    until(lambda: all(client.queue()[job].state.ended for job in waiting), 60)
    assert [len(submission.run.attempts()) for submission in (again, once, broken)] == [2, 1, 1]


def test_every_task_of_an_array_has_follow_ups_of_its_own_where_compute_nodes_have_no_slurm_commands(
    minicluster: Minicluster,
) -> None:
    lacking = minicluster.shared / "lacking"
    lacking.mkdir()
    for command in ("scontrol", "sacct", "squeue"):
        (lacking / command).write_text("#!/bin/sh\nexit 127\n")
        (lacking / command).chmod(0o755)
    cluster = site(
        requeue={"by": "follow-up", "attempts": 3, "seconds_before_end": 30},
        environment={"PATH": f"{lacking}:{os.environ['PATH']}"},
    )
    texts = ["[ $SAMAN_ATTEMPT -gt 1 ] && exit 0; sleep 2; exit 85", "sleep 2", "exit 4", "sleep 300", "exit 0"]
    specs = [bash("tasks", text, minicluster.shared) for text in texts]
    plans = [planning.plan(spec, cluster, minicluster.shared / "runs", "main", {}) for spec in specs]
    done = submit_many(plans, lambda plan: slurm.create_run(plan, (), None), concurrency=2)
    client.scancel([done[4].job])  # before it began: its follow-up must not begin the run instead
    runs = [submission.run for submission in done]
    until(lambda: happened(runs[3], [("rank_started", 1)]), 60)
    client.scancel([done[3].job])
    for run, state in zip(runs, ("completed", "completed", "failed", "cancelled", "cancelled"), strict=True):
        assert wait_for(run).state == state, told(run)
    waiting = [job for submission in done for job in submission.follow_ups]
    assert len(waiting) == 10
    until(lambda: all(client.queue()[job].state.ended for job in waiting), 60)
    assert [run.state.value for run in runs] == ["completed", "completed", "failed", "cancelled", "cancelled"]
    assert [len(run.attempts()) for run in runs] == [2, 1, 1, 1, 0]
    assert (runs[0].attempt(2).path / "job.sbatch").read_text().count("runs.txt") == 0  # its own, not the array's


def test_attempts_are_limited_and_resume_counts_anew(minicluster: Minicluster) -> None:
    cluster = site(requeue={"by": "scontrol", "attempts": 2, "seconds_before_end": 30})
    run = submitted(bash("restless", "sleep 0.5; exit 85", minicluster.shared), cluster, minicluster.shared).run
    status = wait_for(run)
    assert status.state == "failed" and "all 2 attempts" in status.detail, told(run)
    assert len(run.attempts()) == 2
    slurm.resubmit(run)
    wait_for(run, "running", "queued")
    until(lambda: run.state.ended, 60)
    assert len(run.attempts()) == 4


HANDLING = """
import signal, sys, time
def stop(*_):
    print("checkpoint written", flush=True)
    sys.exit(85)
signal.signal(signal.SIGUSR1, stop)
print("handler installed", flush=True)
time.sleep(0.1 if sys.argv[1] == "2" else 300)
"""


def test_a_users_program_gets_its_signal_on_every_node_and_continues(minicluster: Minicluster) -> None:
    text = f"{sys.executable} -c '{HANDLING}' $SAMAN_ATTEMPT"
    done = submitted(bash("handling", text, minicluster.shared, nodes=2), site(), minicluster.shared)
    until(lambda: all("installed" in printed(done.run, rank) for rank in (0, 1)), 60)
    client.ask(["scancel", "--batch", "--signal=USR1", done.job])  # what --signal=B:USR1@… sends before the time limit
    assert wait_for(done.run).state == "completed", told(done.run)
    assert all("checkpoint written" in printed(done.run, rank) for rank in (0, 1))
    assert len(done.run.attempts()) == 2


def test_a_program_without_memory_is_explained(minicluster: Minicluster) -> None:
    said = "slurmstepd: error: Detected 1 oom_kill event in StepId=1.0."  # Slurm's words, where srun prints them
    text = f"echo '{said}' >/proc/$PPID/fd/2; kill -KILL $PPID"
    run = submitted(bash("hungry", text, minicluster.shared), site(), minicluster.shared).run
    status = wait_for(run)
    assert status.state == "failed" and "out of memory" in status.detail, told(run)


def test_a_run_is_followed_from_its_folder_where_slurm_cannot_be_asked(
    minicluster: Minicluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = submitted(bash("away", "sleep 6", minicluster.shared), site(), minicluster.shared).run
    until(lambda: happened(run, [("rank_started", 1)]), 30)
    with monkeypatch.context() as away:
        away.setenv("PATH", "/nowhere")
        assert standing(run).state == "running"
    with monkeypatch.context() as off:  # accounting off
        off.setattr(client, "accounting", lambda ids: None)
        assert wait_for(run).state == "completed"


def test_a_time_limit_is_said_with_what_to_do(late: RunFolder) -> None:
    run = late
    status = wait_for(run, seconds=170)
    assert status.state == "failed" and "time limit" in status.detail, told(run)


def test_nothing_is_left_running(no_jobs: Minicluster) -> None:
    time.sleep(0.5)
    assert not [job for job in client.queue().values() if job.state.value == "running"]
