"""A failed attempt is followed by another, or is not, and a sentence says why."""

from __future__ import annotations

from typing import Any

import pytest

from saman.configs.schemas.launch.restart import Restart
from saman.launcher.restarts.decision import AttemptFailure, RestartAnswer, decide_restart, restarts_in_a_row
from saman.runs.events import Event
from saman.runs.records.run_events import RestartCause, Restarting

POLICY = Restart(times=3, window="1h", backoff="2s", longest_backoff="10s")
A_VALUE_ERROR = "ValueError: bad value 7 at 0x7fdd"


def failure(attempt: int = 1, **facts: Any) -> AttemptFailure:
    return AttemptFailure(**{"attempt": attempt, "message": "m", "exit_code": 1, "cause": RestartCause.KILLED, **facts})


def history(*kinds: tuple[str, float] | Event) -> list[Event]:
    events = [Event("created", "submitter", 0.0)]
    attempt = 0
    for item in kinds:
        if isinstance(item, Event):
            events.append(item)
            continue
        attempt += item[0] == "attempt_started"
        events.append(Event(item[0], "supervisor", item[1], attempt=attempt))
    return events


STARTED = history(("attempt_started", 1.0))


def decide(failed: AttemptFailure, events: list[Event] = STARTED, now: float = 100.0) -> RestartAnswer:
    decision = decide_restart(POLICY, failed, events, now)
    assert decision.reason
    return decision.answer


@pytest.mark.parametrize("cause", [*RestartCause])
def test_a_crash_a_kill_a_stall_and_a_lost_node_are_followed_by_another_attempt(cause: RestartCause) -> None:
    assert decide(failure(cause=cause)) is RestartAnswer.RESTART


def test_a_users_mistake_is_not_repeated() -> None:
    assert decide(failure(exit_code=2, errors=((0, "bad"),))) is RestartAnswer.MISTAKE


def test_a_lack_of_the_environment_may_pass() -> None:
    assert decide(failure(exit_code=3, errors=((0, "disk full"),))) is RestartAnswer.RESTART


def test_the_same_error_on_all_ranks_is_not_repeated() -> None:
    same = tuple((rank, f"ValueError: bad value {rank} at 0x{rank}f") for rank in range(3))
    assert decide(failure(errors=same, processes=3)) is RestartAnswer.SAME_ON_ALL_RANKS
    assert decide(failure(errors=same[:2], processes=3)) is RestartAnswer.RESTART
    assert decide(failure(errors=(*same[:2], (2, "KeyError: x")), processes=3)) is RestartAnswer.RESTART
    assert decide(failure(errors=same[:1], processes=1)) is RestartAnswer.RESTART


@pytest.mark.parametrize(
    ("step", "error", "answer"),
    [
        (12, A_VALUE_ERROR, RestartAnswer.SAME_STEP),
        (12, "ValueError: bad value 9 at 0x1b", RestartAnswer.SAME_STEP),
        (13, A_VALUE_ERROR, RestartAnswer.RESTART),
        (12, "KeyError: 'x'", RestartAnswer.RESTART),
        (None, A_VALUE_ERROR, RestartAnswer.RESTART),
    ],
)
def test_the_same_error_twice_at_the_same_step_is_not_repeated(
    step: int | None, error: str, answer: RestartAnswer
) -> None:
    before = Restarting("r", RestartCause.ERROR, 1.0, "ValueError: bad value # at #", 12)
    events = history(("attempt_started", 1.0), Event("restarting", "supervisor", 5.0, 1, before.facts()))
    events.append(Event("attempt_started", "supervisor", 6.0, 2))
    assert decide(failure(2, errors=((1, error),), processes=2, step=step), events) is answer


def test_a_stop_that_was_requested_ends_a_run_whose_rank_then_fails() -> None:
    events = [*STARTED, Event("stop_requested", "user", 50.0)]
    assert decide(failure(), events) is RestartAnswer.STOP_REQUESTED
    later = [*events, Event("preempted", "job", 51.0, 1), Event("attempt_started", "supervisor", 60.0, 2)]
    assert decide(failure(2), later) is RestartAnswer.RESTART


def restarted(times: list[float], start: float = 1.0) -> list[Event]:
    kinds: list[tuple[str, float]] = [("attempt_started", start)]
    for time in times:
        kinds += [("restarting", time), ("attempt_started", time + 1)]
    return history(*kinds)


def test_restarts_are_limited_within_a_window() -> None:
    events = restarted([100.0, 200.0, 300.0])
    assert decide(failure(4), events, now=400.0) is RestartAnswer.USED_UP
    assert decide(failure(4), events, now=3700.1) is RestartAnswer.RESTART  # the first has left the window
    assert decide(failure(3), restarted([100.0, 200.0]), now=400.0) is RestartAnswer.RESTART


@pytest.mark.parametrize(("before", "counted"), [("failed", 0), ("cancelled", 0), ("preempted", 3)])
def test_a_user_who_resumes_a_run_counts_anew_and_a_requeued_job_does_not(before: str, counted: int) -> None:
    events = [*restarted([100.0, 200.0, 300.0]), Event(before, "supervisor", 310.0, 4)]
    events.append(Event("attempt_started", "supervisor", 320.0, 5))
    assert len(restarts_in_a_row(events)) == counted


def test_resuming_a_run_whose_supervisor_was_killed_counts_anew() -> None:
    events = [*restarted([100.0, 200.0, 300.0]), Event("attempt_started", "supervisor", 320.0, 5)]
    assert restarts_in_a_row(events) == []


def test_pauses_double_until_a_checkpoint_and_have_a_longest() -> None:
    policy = Restart(times=50, backoff="2s", longest_backoff="10s")
    pauses = []
    for number in range(5):
        events = restarted([100.0 + 10 * place for place in range(number)])
        pauses.append(decide_restart(policy, failure(number + 1), events, 400.0).pause_seconds)
    assert pauses == [2.0, 4.0, 8.0, 10.0, 10.0]
    saved = [*restarted([100.0, 110.0]), Event("checkpoint", "rank 0", 130.0, 3, {"step": 40})]
    assert decide_restart(policy, failure(3), saved, 400.0).pause_seconds == 2.0


def test_the_facts_of_a_restart_survive_their_event() -> None:
    facts = Restarting("r", RestartCause.STALL, 2.5, "ValueError: #", 3)
    assert Restarting.from_event(Event("restarting", "supervisor", 1.0, 1, facts.facts())) == facts
    assert Restarting.from_event(
        Event("restarting", "supervisor", 1.0, 1, {"cause": "of a later version"})
    ) == Restarting("")
    assert Restarting.from_event(Event("failed", "supervisor", 1.0, 1)) is None
