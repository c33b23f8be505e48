"""The outcome of an attempt whose processes have all exited: derived from records, written to the run folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from saman.configs.errors import ExitCode
from saman.configs.schemas.launch.restart import Restart
from saman.launcher.plan.placement import Placement
from saman.launcher.restarts.decision import AttemptFailure, RestartDecision, decide_restart
from saman.launcher.supervision.failures import FailedRank, Failure, find_failure, find_own_errors
from saman.launcher.supervision.known_errors import find_starter_cause
from saman.launcher.supervision.verdict import AttemptEnd, Verdict, judge_attempt
from saman.runs.events import SUPERVISOR, Event, EventKind, State
from saman.runs.files.reserve import release
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks import attempt_ranks
from saman.runs.ranks.rank_events import FailureKind
from saman.runs.ranks.records import RankRecord
from saman.runs.records.run_events import RestartCause, Restarting
from saman.runs.records.summary import Summary
from saman.runs.telemetry.throughput import TrainingMeasures, measure_training

WHO = SUPERVISOR


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``message`` is for people; ``starter_lines`` are the last lines of the start method."""

    run: RunFolder
    attempt: int
    state: State
    exit_code: int
    seconds: float
    message: str
    failure: Failure | None = None
    starter_lines: tuple[str, ...] = ()
    restart: RestartDecision | None = None  # of a failed attempt under launch.restart


def conclude(
    run: RunFolder,
    attempt: Attempt,
    ended: AttemptEnd,
    seconds: float,
    output: tuple[str, ...],
    policy: Restart | None = None,
) -> Outcome:
    """Judge an attempt and record the result: ``summary.json``, then the event that ends the attempt.

    A failed attempt that is followed by another by itself ends with ``restarting``; the run stays ``running``.

    Args:
        run: the run folder.
        attempt: the files of the attempt.
        ended: everything known of its end.
        seconds: its wall time.
        output: the last lines that the start method printed.
        policy: ``launch.restart``; ``None`` never restarts.
    """
    everything = run.events()
    events = [event for event in everything if event.attempt == attempt.number]
    found = find_failure(events, ended.records, output, ended.lost)
    verdict = judge_attempt(ended, found, find_starter_cause(output))
    failure = found if verdict.state is State.FAILED else None
    facts = _facts(verdict, failure, seconds)
    measured = measure_training(run, attempt, everything, time.time())
    restart, failed = None, None
    if policy is not None and verdict.state is State.FAILED:
        failed = _attempt_failure(attempt, ended, verdict, failure, events)
        restart = decide_restart(policy, failed, everything, time.time())
    try:
        run.write_summary(_summary(verdict, failure, seconds, measured))
    finally:  # on a full disk the state matters more than the summary: it must not stay `running`
        if restart is not None and failed is not None and restart.restarts:
            run.append(EventKind.RESTARTING, WHO, attempt.number, **facts, **_restarting(restart, failed).facts())
        else:
            if restart is not None:
                run.append(EventKind.NOT_RESTARTED, WHO, attempt.number, reason=restart.reason)
            run.append(verdict.state.value, WHO, attempt.number, **facts)
        release(run.reserve)
    return Outcome(
        run=run,
        attempt=attempt.number,
        state=verdict.state,
        exit_code=verdict.exit_code,
        seconds=seconds,
        message=verdict.message,
        failure=failure,
        starter_lines=output,
        restart=restart,
    )


def _restarting(decision: RestartDecision, failed: AttemptFailure) -> Restarting:
    return Restarting(decision.reason, failed.cause, decision.pause_seconds, failed.signature, failed.step)


def _attempt_failure(
    attempt: Attempt, ended: AttemptEnd, verdict: Verdict, failure: Failure | None, events: Sequence[Event]
) -> AttemptFailure:
    first = None if failure is None else failure.first[0]
    code = verdict.exit_code if not ended.is_script or first is None or first.code is None else first.code
    if first is not None and ended.is_script and first.kind is FailureKind.USER_ERROR:
        code = ExitCode.BAD_REQUEST  # the program cannot be started
    return AttemptFailure(
        attempt=attempt.number,
        message=verdict.message,
        exit_code=code,
        cause=_restart_cause(ended, first),
        errors=find_own_errors(events, ended.records),
        processes=len(ended.placement.processes),
        step=None if first is None else first.step,
    )


def _restart_cause(ended: AttemptEnd, first: FailedRank | None) -> RestartCause:
    if ended.aborted is not None:
        return RestartCause.STALL
    if first is None or (first.code is None and first.signal is None and first.message is None):
        return RestartCause.UNKNOWN
    if first.kind is FailureKind.PEER_LOST:
        return RestartCause.PEER_LOST
    return RestartCause.KILLED if first.signal is not None else RestartCause.ERROR


def _facts(verdict: Verdict, failure: Failure | None, seconds: float) -> dict[str, Any]:
    facts: dict[str, Any] = {"seconds": round(seconds, 3)}
    if verdict.state is State.FAILED:
        facts |= {"message": verdict.message, "ranks": [failed.rank for failed in failure.first] if failure else []}
    return facts


def _summary(verdict: Verdict, failure: Failure | None, seconds: float, measured: TrainingMeasures) -> Summary:
    throughput = measured.throughput
    return Summary(
        state=verdict.state.value,
        message=verdict.message,
        seconds=round(seconds, 3),
        ranks=tuple(failed.rank for failed in failure.first) if failure else (),
        attempts=measured.attempts,
        samples_per_second=throughput.sustained if throughput else None,
        end_to_end_samples_per_second=measured.end_to_end_samples_per_second,
        step=measured.step,
        epoch=measured.epoch,
        metrics=measured.metrics,
        failure=failure.to_json() if failure else None,
        more={
            "throughput": asdict(throughput) if throughput else None,
            "windows": throughput.windows if throughput else 0,
            "goodput": measured.goodput.to_json() if measured.goodput else None,
            "telemetry_lines_dropped": measured.lines_dropped,
            "windows_repeated": measured.windows_repeated,
        },
    )


def read_records(attempt: Attempt, placement: Placement) -> dict[int, RankRecord]:
    """The records of ended ranks from which the supervisor judges an attempt, by first rank."""
    ranks = {process.first_rank for process in placement.processes}
    return {rank: record for rank, record in attempt_ranks.read_records(attempt).items() if rank in ranks}
