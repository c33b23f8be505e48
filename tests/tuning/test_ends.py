"""A killed start is told from a failed one, a pruned trial from a cancelled one; node-hours count every start."""

from __future__ import annotations

from typing import Any

import pytest

from saman.jobs.status import RunState, RunStatus
from saman.runs.events import Event
from saman.tuning.ends import EndKind, judge, node_seconds


def status(state: RunState) -> RunStatus:
    return RunStatus("runs/t/1", "1", "t", state, "", attempt=1)


def event(kind: str, who: str = "supervisor", time: float = 1.0, **facts: Any) -> Event:
    return Event(kind, who, time, facts=facts)


def rank(kind: str = "error", signal: int | None = None) -> dict[str, Any]:
    return {"first": [{"rank": 0, "kind": kind, "signal": signal}]}


STARTED = event("attempt_started")


@pytest.mark.parametrize(
    ("state", "events", "failure", "expected"),
    [
        (RunState.RUNNING, [STARTED], None, EndKind.OPEN),
        (RunState.QUEUED, [], None, EndKind.OPEN),
        (RunState.COMPLETED, [STARTED, event("completed")], None, EndKind.COMPLETE),
        (RunState.PREEMPTED, [STARTED, event("preempted")], None, EndKind.STOPPED),
        (RunState.FAILED, [STARTED, event("failed")], rank(), EndKind.FAILED),
        (RunState.FAILED, [STARTED, event("failed")], rank("user_error"), EndKind.FAILED),
        (RunState.FAILED, [STARTED, event("failed")], rank(signal=9), EndKind.KILLED),
        (RunState.FAILED, [STARTED, event("failed")], rank("peer_lost"), EndKind.KILLED),
        (RunState.FAILED, [STARTED, event("failed")], None, EndKind.KILLED),  # ended without a trace
        # an older start failed by itself, this one was lost with its job: Slurm alone knows
        (RunState.FAILED, [STARTED, event("failed", "slurm")], rank(), EndKind.KILLED),
        (RunState.VANISHED, [STARTED], None, EndKind.KILLED),
        (RunState.CANCELLED, [STARTED, event("cancelled", "job")], None, EndKind.KILLED),  # by an administrator
        (RunState.CANCELLED, [STARTED, event("stop_requested", "user", reason="cancel")], None, EndKind.CANCELLED),
        (RunState.CANCELLED, [event("cancelled", "user")], None, EndKind.CANCELLED),
        (RunState.CANCELLED, [STARTED, event("stop_requested", "user", reason="prune")], None, EndKind.KILLED),
    ],
)
def test_an_end_is_told_by_who_caused_it(
    state: RunState, events: list[Event], failure: dict[str, Any] | None, expected: EndKind
) -> None:
    assert judge(status(state), events, failure).kind is expected


def test_a_cancellation_before_this_start_is_over() -> None:
    events = [STARTED, event("stop_requested", "user", reason="cancel"), event("queued", "submitter"), STARTED]
    assert judge(status(RunState.CANCELLED), events, None).kind is EndKind.KILLED


def test_node_hours_count_every_start_and_no_wait() -> None:
    events = [
        event("created", time=0.0),
        event("attempt_started", time=10.0),
        event("failed", time=40.0),
        event("queued", time=50.0),
        event("attempt_started", time=100.0),
        event("epoch", time=110.0),
    ]
    assert node_seconds(events, 2, now=130.0, over=False) == 2 * (30 + 30)
    assert node_seconds(events, 2, now=130.0, over=True) == 2 * (30 + 10)  # killed without a record: its last sign
    assert node_seconds(events[:1], 2, now=130.0, over=False) == 0.0
