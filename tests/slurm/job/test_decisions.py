"""Whether a job starts an attempt, and why the last attempt ended."""

from __future__ import annotations

import pytest

from saman.runs.events import Event
from saman.slurm.job.decisions import Begin, Cause, Decision, decide_start, find_cause, find_failed_nodes
from saman.slurm.site.client import NodeState


def _events(*kinds: str) -> list[Event]:
    return [Event(kind, "submitter" if kind == "queued" else "x") for kind in kinds]


@pytest.mark.parametrize(
    ("kinds", "attempts", "begin"),
    [
        (("created", "queued"), 0, Begin.GO),
        (("queued", "attempt_started", "preempted"), 1, Begin.GO),
        (("queued", "attempt_started", "completed"), 1, Begin.NOT_NEEDED),
        (("queued", "attempt_started", "cancelled"), 1, Begin.NOT_NEEDED),
        (("queued", "attempt_started", "preempted", "attempt_started", "preempted"), 2, Begin.USED_UP),
        (("queued", "attempt_started", "attempt_started", "failed", "queued"), 2, Begin.GO),
    ],
)
def test_a_start_goes_on_only_where_it_is_needed(kinds: tuple[str, ...], attempts: int, begin: Begin) -> None:
    assert decide_start(_events(*kinds), attempts, 2, ["n1"]).begin is begin


def _attempts(count: int, *of_each: Event) -> list[Event]:
    start, end = Event("attempt_started", "supervisor"), Event("preempted", "supervisor")
    return [Event("queued", "submitter"), *[each for _ in range(count) for each in (start, *of_each, end)]]


def test_attempts_that_make_progress_are_never_used_up() -> None:
    steps = [
        [
            Event("attempt_started", "x"),
            Event("checkpoint", "rank 0", facts={"step": step, "path": "x"}),
            Event("preempted", "x"),
        ]
        for step in (10, 20, 30, 30, 30)
    ]
    made = [Event("queued", "submitter"), *[event for attempt in steps for event in attempt]]
    assert decide_start(made[:10], 3, 2, ["n1"]).begin is Begin.GO
    assert decide_start(made[:13], 4, 2, ["n1"]).begin is Begin.GO
    assert decide_start(made, 5, 2, ["n1"]).begin is Begin.USED_UP  # step 30 for the third time


def test_a_users_program_makes_progress_with_a_checkpoint_that_was_asked_for() -> None:
    assert decide_start(_attempts(9, Event("stop_requested", "job")), 9, 2, ["n1"]).begin is Begin.GO
    assert decide_start(_attempts(9), 9, 2, ["n1"]).begin is Begin.USED_UP


def test_a_node_lost_twice_is_avoided() -> None:
    lost = [Event("node_failed", "job", facts={"node": "n2"})] * 2
    assert decide_start([*_events("queued"), *lost], 1, 9, ["n1", "n2"]) == Decision(
        Begin.ELSEWHERE, "node failures in this run: n2 (2 or more); requesting other nodes", ("n2",)
    )
    assert decide_start([*_events("queued"), *lost[:1]], 1, 9, ["n1", "n2"]).begin is Begin.GO


def test_the_node_that_fell_silent_first_is_the_lost_one_if_slurm_does_not_answer() -> None:
    assert find_failed_nodes({}, {"n1": 130.0, "n2": 100.0, "n3": 131.0}, 0.0) == {"n2"}
    shown = {"n1": NodeState("IDLE", 5.0), "n2": NodeState("DOWN*"), "n3": NodeState("IDLE", 20.0)}
    assert find_failed_nodes(shown, {}, started=10.0) == {"n2", "n3"}


@pytest.mark.parametrize(
    ("shown", "recorded", "log", "cause"),
    [
        ({"Restarts": "1"}, None, "", Cause.PREEMPTED),
        ({"Restarts": "0"}, "CANCELLED by 0", "", Cause.CANCELLED),
        ({}, None, "*** JOB 5 ON n1 CANCELLED AT 2026-11-21T04:45:25 DUE TO PREEMPTION ***", Cause.PREEMPTED),
        ({}, None, "*** JOB 5 ON n1 CANCELLED AT 2026-11-21T04:45:25 ***", Cause.CANCELLED),
        ({}, None, "*** JOB 5 ON n1 CANCELLED AT X DUE TO NODE FAILURE, SEE LOG ***", Cause.NODE_FAILURE),
        ({}, "RUNNING", "*** JOB 4 ON n1 CANCELLED AT X ***", Cause.UNKNOWN),
    ],
)
def test_why_slurm_takes_the_nodes_away(shown: dict[str, str], recorded: str | None, log: str, cause: Cause) -> None:
    assert find_cause(shown, 0, recorded, log, "5") is cause
