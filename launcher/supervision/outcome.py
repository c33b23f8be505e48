"""The outcome of an attempt whose processes have all exited: derived from records, written to the run folder."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

from saman.launcher.plan.placement import Placement
from saman.launcher.supervision.failures import Failure, find_failure
from saman.launcher.supervision.starter_causes import find_starter_cause
from saman.launcher.supervision.verdict import AttemptEnd, Verdict, judge_attempt
from saman.runs.events import SUPERVISOR, State
from saman.runs.files.reserve import release
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks import attempt_ranks
from saman.runs.ranks.records import RankRecord
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


def conclude(run: RunFolder, attempt: Attempt, ended: AttemptEnd, seconds: float, output: tuple[str, ...]) -> Outcome:
    """Judge an attempt and record the result: ``summary.json``, then the event that ends the attempt.

    Args:
        run: the run folder.
        attempt: the files of the attempt.
        ended: everything known of its end.
        seconds: its wall time.
        output: the last lines that the start method printed.
    """
    events = [event for event in run.events() if event.attempt == attempt.number]
    found = find_failure(events, ended.records, output)
    verdict = judge_attempt(ended, found, find_starter_cause(output))
    failure = found if verdict.state is State.FAILED else None
    facts = _facts(verdict, failure, seconds)
    measured = measure_training(run, attempt, run.events(), time.time())
    try:
        run.write_summary(_summary(verdict, failure, seconds, measured))
    finally:  # on a full disk the state matters more than the summary: it must not stay `running`
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
    )


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
            "telemetry_lines_dropped": measured.lines_dropped,
            "windows_repeated": measured.windows_repeated,
        },
    )


def read_records(attempt: Attempt, placement: Placement) -> dict[int, RankRecord]:
    """The records of ended ranks from which the supervisor judges an attempt, by first rank."""
    ranks = {process.first_rank for process in placement.processes}
    return {rank: record for rank, record in attempt_ranks.read_records(attempt).items() if rank in ranks}
