"""How an attempt ended: state, exit status and message. Rank records count more than the starter's exit status."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saman.configs.errors import ExitCode
from saman.launcher.plan.placement import Placement
from saman.launcher.supervision.failures import FailedRank, Failure
from saman.launcher.supervision.stalls import Stall
from saman.runs.events import State
from saman.runs.ranks.rank_events import FailureKind
from saman.runs.ranks.records import RankRecord


@dataclass(frozen=True)
class AttemptEnd:
    """An attempt whose processes have all exited.

    ``records`` are by first rank of each process, ``codes`` are the exit statuses of the start method's processes,
    ``aborted`` is the stall for which the supervisor ended the attempt.
    """

    placement: Placement
    starter: str
    records: Mapping[int, RankRecord]
    codes: Sequence[int | None]
    signals: Sequence[int] = ()
    aborted: Stall | None = None
    is_script: bool = False
    early: str | None = None  # the companion that ended before the ranks, in words
    members: frozenset[int] | None = None  # the processes whose end counts; ``None`` for all
    lost: frozenset[int] = frozenset()  # ranks without which the run went on


@dataclass(frozen=True)
class Verdict:
    """The state that an attempt leaves the run in, the exit status of saman, and a message for people."""

    state: State
    exit_code: int
    message: str


def judge_attempt(ended: AttemptEnd, failure: Failure | None, cause: str | None = None) -> Verdict:
    """Judge an attempt by its rank records, then by signals, stall and failure, last by the start method.

    Args:
        ended: everything known of its end.
        failure: the first failing ranks, if a rank failed.
        cause: the cause that the start method's output names.
    """
    counted = ended.members or frozenset(process.index for process in ended.placement.processes)
    done = [record for record in ended.records.values() if record.has_ended and record.process in counted]
    codes = {record.code for record in done}
    complete = len(done) == len(counted)
    if complete and codes == {ExitCode.DONE}:
        return Verdict(State.COMPLETED, ExitCode.DONE, "completed")
    if complete and codes <= {ExitCode.DONE, ExitCode.REQUEUE}:
        return Verdict(State.PREEMPTED, ExitCode.REQUEUE, "checkpointed on request; saman resume continues it")
    if ended.signals:
        name = signal.Signals(ended.signals[0]).name
        return Verdict(State.CANCELLED, ExitCode.INTERRUPTED, f"stopped by {name}; all ranks have ended")
    if ended.aborted is not None:
        return Verdict(State.FAILED, ExitCode.RUN_FAILED, f"stopped after a stall: {ended.aborted.sentence()}")
    if ended.early is not None:
        return Verdict(State.FAILED, ExitCode.RUN_FAILED, ended.early)
    if failure is not None:
        return Verdict(State.FAILED, _exit_status(failure.first[0], ended.is_script), failure.sentence())
    return Verdict(State.FAILED, ExitCode.RUN_FAILED, _unexplained(ended) + (f": {cause}" if cause else ""))


def _exit_status(first: FailedRank, is_script: bool) -> int:
    """A user error that only a rank could find keeps its status: bad request, or missing environment."""
    mistaken = first.kind is FailureKind.USER_ERROR and not is_script
    if mistaken and first.code in (ExitCode.BAD_REQUEST, ExitCode.ENVIRONMENT):
        return int(first.code)
    return ExitCode.RUN_FAILED


def _unexplained(ended: AttemptEnd) -> str:
    """The message for an attempt that no rank explained."""
    processes = ended.placement.processes
    missing = [process.first_rank for process in processes if process.first_rank not in ended.records]
    how = ", ".join(sorted({_status(code) for code in ended.codes if code}))
    problem = (
        f"{len(missing)} of {len(processes)} processes never started" if missing else "ranks ended without a trace"
    )
    return f"{problem}; {ended.starter} ended with {how or 'exit code 0'}"


def _status(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
