"""Decides whether a failed attempt is followed by another: the one owner, for local runs and Slurm jobs. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from saman.configs.errors import ExitCode
from saman.configs.schemas.launch.restart import Restart
from saman.configs.units import format_duration
from saman.runs.events import SUBMITTER, Event, EventKind, State, state_of
from saman.runs.ranks.training_events import CheckpointSave
from saman.runs.records.run_events import RestartCause, Restarting

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")  # addresses, ranks and process ids differ between equal errors


class RestartAnswer(str, Enum):
    """Whether another attempt begins, or why none does."""

    RESTART = "restart"
    MISTAKE = "mistake"  # the request is wrong, and stays wrong
    SAME_ON_ALL_RANKS = "same error on all ranks"
    SAME_STEP = "same error twice at the same step"
    STOP_REQUESTED = "stop requested"
    USED_UP = "used up"


@dataclass(frozen=True)
class AttemptFailure:
    """How an attempt failed.

    Attributes:
        attempt: Its number.
        message: The verdict, for people.
        exit_code: The exit status of saman, or of the first failing rank of a user's program.
        cause: The kind of failure.
        errors: The Python error of each process that failed by itself, by its first rank.
        processes: The number of processes.
        step: The step of the first failing rank; ``None`` if it is not known, as in a user's own program.
    """

    attempt: int
    message: str
    exit_code: int
    cause: RestartCause
    errors: tuple[tuple[int, str], ...] = ()
    processes: int = 1
    step: int | None = None

    @property
    def signature(self) -> str | None:
        """The error of the first failing process, without numbers; ``None`` if it did not fail by a Python error."""
        return signature(self.errors[0][1]) if self.errors else None

    @property
    def same_everywhere(self) -> bool:
        """Whether all processes failed by the same error, so that no restart helps."""
        return self.processes > 1 and len(self.errors) == self.processes and len({*map(signature, self.texts)}) == 1

    @property
    def texts(self) -> tuple[str, ...]:
        """The error of each process, by which the decision on a restart tells repeated failures."""
        return tuple(text for _, text in self.errors)


@dataclass(frozen=True)
class RestartDecision:
    """The answer, a sentence for it, and the pause before the next attempt."""

    answer: RestartAnswer
    reason: str
    pause_seconds: float = 0.0

    @property
    def restarts(self) -> bool:
        """Whether another attempt begins."""
        return self.answer is RestartAnswer.RESTART


def signature(error: str) -> str:
    """An error without what differs between ranks and attempts, to tell a repeated failure from another.

    >>> signature("ValueError: bad value 3 at 0x7f") == signature("ValueError: bad value 4 at 0x8a")
    True
    """
    return _NUMBERS.sub("#", error)


def decide_restart(policy: Restart, failed: AttemptFailure, events: Sequence[Event], now: float) -> RestartDecision:
    """Decide whether a failed attempt is followed by another.

    Args:
        policy: ``launch.restart``.
        failed: How the attempt failed.
        events: The events of the run, oldest first.
        now: Unix time in seconds.
    """
    if (refused := _refusal(failed, events)) is not None:
        return refused
    earlier = restarts_in_a_row(events)
    recent = [time for time, _ in earlier if time > now - policy.window_seconds]
    if len(recent) >= policy.times:
        times = f"{policy.times} restart{'s' if policy.times > 1 else ''} within {policy.window}"
        return RestartDecision(RestartAnswer.USED_UP, f"not restarted: {times} are used up (launch.restart)")
    pause = min(policy.longest_backoff_seconds, policy.backoff_seconds * 2.0 ** min(_fruitless(events), 30))
    count = f"restart {len(recent) + 1} of {policy.times} within {policy.window}"
    when = f"in {format_duration(pause)}, from the newest checkpoint"
    return RestartDecision(RestartAnswer.RESTART, f"restarting after {failed.cause.words} {when} ({count})", pause)


def _refusal(failed: AttemptFailure, events: Sequence[Event]) -> RestartDecision | None:
    """Why no further attempt would help."""
    if _stop_requested(failed, events):
        return RestartDecision(RestartAnswer.STOP_REQUESTED, "not restarted: a stop was requested")
    if failed.exit_code == ExitCode.BAD_REQUEST:
        reason = "not restarted: the request is wrong, and another attempt would fail like this one"
        return RestartDecision(RestartAnswer.MISTAKE, reason)
    if failed.same_everywhere:
        reason = f"not restarted: all {failed.processes} processes failed by the same error"
        return RestartDecision(RestartAnswer.SAME_ON_ALL_RANKS, reason)
    before = restarts_in_a_row(events)[-1:]
    if failed.step is not None and failed.signature is not None:
        for _, restart in before:
            if (restart.error, restart.step) == (failed.signature, failed.step):
                reason = f"not restarted: the same error occurred twice at step {failed.step}"
                return RestartDecision(RestartAnswer.SAME_STEP, reason)
    return None


def _stop_requested(failed: AttemptFailure, events: Sequence[Event]) -> bool:
    """Whether a stop was requested since the attempt began."""
    requested = False
    for event in events:
        if event.kind == EventKind.ATTEMPT_STARTED and event.attempt == failed.attempt:
            requested = False
        requested = requested or event.kind == EventKind.STOP_REQUESTED
    return requested


def restarts_in_a_row(events: Sequence[Event]) -> list[tuple[float, Restarting]]:
    """The restarts of a run, with their times, since a user started, resumed or submitted it last."""
    found: list[tuple[float, Restarting]] = []
    for place, event in enumerate(events):
        restart = Restarting.from_event(event)
        if restart is not None:
            found.append((event.time, restart))
        elif _is_a_users(event, events[:place]):
            found = []
    return found


def _is_a_users(event: Event, before: Sequence[Event]) -> bool:
    """Whether a user submitted the run, or started an attempt: not after a restart, and not by a requeued job."""
    if event.kind == EventKind.QUEUED:
        return event.who == SUBMITTER
    if event.kind != EventKind.ATTEMPT_STARTED:
        return False
    last = next((event for event in reversed(before) if event.kind in _DECIDING), None)
    return last is None or last.kind not in (EventKind.RESTARTING, EventKind.PREEMPTED)


_DECIDING = frozenset(
    {
        EventKind.CREATED, EventKind.RESTARTING, EventKind.PREEMPTED, EventKind.FAILED, EventKind.CANCELLED,
        EventKind.ATTEMPT_STARTED,
    }
)  # fmt: skip


def _fruitless(events: Sequence[Event]) -> int:
    """Restarts in a row since the newest checkpoint of a step later than all before it."""
    count, newest = 0, -1
    for event in events:
        saved = CheckpointSave.from_event(event)
        if saved is not None and saved.step > newest:
            count, newest = 0, saved.step
        elif event.kind == EventKind.RESTARTING:
            count += 1
    return min(count, len(restarts_in_a_row(events)))


def waits_to_restart(events: Sequence[Event]) -> bool:
    """Whether a restart is decided: a run between a failed attempt and the next, which begins by itself."""
    last = next((event for event in reversed(events) if event.kind in _DECIDING), None)
    return state_of(events) is State.RUNNING and last is not None and last.kind == EventKind.RESTARTING
