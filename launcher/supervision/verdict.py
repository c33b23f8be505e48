"""How an attempt ended: state, exit code and a sentence, from what ranks recorded before what a starter returned."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saman.configs.errors import ExitCode
from saman.launcher.plan.placement import Placement
from saman.launcher.supervision.failures import FailedRank, Failure
from saman.launcher.supervision.stalls import Stall
from saman.runs.events import State
from saman.runs.ranks.records import RankRecord


@dataclass(frozen=True)
class AttemptEnd:
    """What is known of an attempt of which nobody runs any more.

    ``records`` are by first rank of each process; ``codes`` are those of the processes of the start method;
    ``aborted`` is the stall for which the supervisor ended it.
    """

    placement: Placement
    starter: str
    records: Mapping[int, RankRecord]
    codes: Sequence[int | None]
    signals: Sequence[int] = ()
    aborted: Stall | None = None
    is_script: bool = False


def judge(ended: AttemptEnd, failure: Failure | None) -> tuple[State, int, str]:
    """State, exit code and a sentence. Ranks' own accounts come before what the start method returned."""
    done = [record for record in ended.records.values() if record.has_ended]
    codes = {record.code for record in done}
    everybody = len(done) == len(ended.placement.processes)
    if everybody and codes == {0}:
        return State.COMPLETED, ExitCode.DONE, "completed"
    if everybody and codes <= {0, 85}:
        return State.PREEMPTED, ExitCode.REQUEUE, "checkpointed on request; saman resume continues it"
    if ended.signals:
        name = signal.Signals(ended.signals[0]).name
        return State.CANCELLED, ExitCode.INTERRUPTED, f"stopped by {name}; all ranks have ended"
    if ended.aborted is not None:
        return State.FAILED, ExitCode.RUN_FAILED, f"stopped after a stall: {ended.aborted.sentence()}"
    if failure is not None:
        return State.FAILED, _exit_code(failure.first[0], ended.is_script), failure.sentence()
    return State.FAILED, ExitCode.RUN_FAILED, _without_a_trace(ended)


def _exit_code(first: FailedRank, is_script: bool) -> int:
    """A mistake that only a rank could find is still a wrong request, or a lack of the environment."""
    mistaken = first.kind == "user_error" and not is_script
    if mistaken and first.code in (ExitCode.BAD_REQUEST, ExitCode.ENVIRONMENT):
        return int(first.code)
    return ExitCode.RUN_FAILED


def _without_a_trace(ended: AttemptEnd) -> str:
    """What to say where no rank could say anything."""
    processes = ended.placement.processes
    missing = [one.first_rank for one in processes if one.first_rank not in ended.records]
    how = ", ".join(sorted({_status(code) for code in ended.codes if code}))
    problem = (
        f"{len(missing)} of {len(processes)} processes never started" if missing else "ranks ended without a trace"
    )
    return f"{problem}; {ended.starter} ended with {how or 'exit code 0'}"


def _status(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
