"""``python -m saman.trainers.worker RUN``: what each process of a run executes, under every start method.

Exit statuses: 0 done, 1 failed, 2 and 3 mistakes and lacks that only a rank can find, 85 checkpointed on request.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saman.configs.errors import ExitCode, UserError
from saman.runs import variables
from saman.runs.checkpoints import finish_pending_writes
from saman.runs.elastic.spare_priority import becomes_spare
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.folder import RunFolder
from saman.runs.ranks.heartbeats import Heartbeat
from saman.runs.records.summary import Summary
from saman.trainers.failures import TrainingFailure, UserCodeError, describe_failure, failure_kind
from saman.trainers.identity import WorkerIdentity, identify_worker
from saman.trainers.quiet_import import import_quietly

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.trainers.strategies.base import Strategy
    from saman.trainers.training import TrainingResult

PENDING_SECONDS = 3.0  # for a checkpoint that is being written when its rank fails


def main(arguments: list[str]) -> int:
    """Train the run in the folder given as the only argument; return the exit status."""
    if len(arguments) != 1:
        print("usage: python -m saman.trainers.worker RUN", file=sys.stderr)
        return ExitCode.BAD_REQUEST
    heartbeat = Heartbeat.from_environment()
    run, me = None, None
    try:
        run = RunFolder.open(Path(arguments[0]))
        experiment = run.experiment()
        me = identify_worker(os.environ, experiment)
        _append_code_path(run, me)
        status = _train(run, experiment, me, heartbeat)
    except BaseException as error:
        return report_failure(run, me, error, None if heartbeat is None else heartbeat.step)
    if heartbeat is not None:
        heartbeat.close()
    return status


def _append_code_path(run: RunFolder, me: WorkerIdentity) -> None:
    """Append folders of the user's code to ``sys.path``, at its end, where they hide no installed package."""
    for folder in me.code_path or [str(path) for path in run.code_path] or [str(Path.cwd())]:
        if folder not in sys.path:
            sys.path.append(folder)


def _train(run: RunFolder, experiment: Experiment, me: WorkerIdentity, heartbeat: Heartbeat | None) -> int:
    if becomes_spare(os.environ):
        import_quietly()
    from saman.trainers import strategies

    strategy = strategies.start(experiment, run)
    if strategy is None:
        return ExitCode.DONE
    from saman.trainers.training import train

    attempt = me.attempt or _begin_attempt_by_hand(run, strategy)
    began = time.time()
    with explain_write_errors(run.path, "the run folder"):
        result = train(run, experiment, strategy, attempt, heartbeat or SilentObserver())
    if not me.supervised and strategy.chief:
        _record_end(run, attempt, result, time.time() - began)
    strategy.close()
    status = ExitCode.DONE if result.finished else ExitCode.REQUEUE
    if experiment.train.strategy == "parameter_server":  # TensorFlow's coordinator would wait for a lost worker
        if heartbeat is not None:
            heartbeat.close()
        exit_at_once(status)
    return status


def _begin_attempt_by_hand(run: RunFolder, strategy: Strategy) -> int:
    """Begin an attempt without a supervisor, on the chief; return its number on every rank."""
    from saman.trainers.strategies.base import agree

    number = int(agree(strategy, run.new_attempt().number if strategy.chief else 0))
    if strategy.chief:
        run.append("attempt_started", "rank 0", number, method="by hand", ranks=strategy.size)
    return number


def _record_end(run: RunFolder, attempt: int, result: TrainingResult, seconds: float) -> None:
    """Write the summary and the last event, which a supervisor would write."""
    state, seconds = "completed" if result.finished else "preempted", round(seconds, 3)
    metrics = dict(result.loop.position.metrics)
    run.write_summary(Summary(state, seconds=seconds, metrics=metrics))
    run.append(state, "rank 0", attempt, seconds=seconds)


class SilentObserver:
    """A ``LoopObserver`` for processes that no launcher watches."""

    def beat(self, phase: str, step: int = 0, epoch: int = 0, total_steps: int | None = None) -> None:
        """Discard the progress."""

    def note_pace(self, busy_seconds: float | None, stage: int | None) -> None:
        """Discard the pace: this worker's observer reports nothing."""


def report_failure(
    run: RunFolder | None, me: WorkerIdentity | None, error: BaseException, step: int | None = None
) -> int:
    """Report an error to the log and as an event of the run; return the exit status.

    Args:
        run: The run folder; ``None`` if it could not be opened.
        me: The identity of this process; ``None`` if it is unknown.
        error: What ended the training.
        step: The step that the training had reached.
    """
    if isinstance(error, UserCodeError):  # the user's own trace, then what it means
        traceback.print_exception(error.__cause__)
    if isinstance(error, (UserError, UserCodeError, TrainingFailure)):
        print(f"saman: {error}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)
    if run is not None:
        rank = me.first_rank if me else int(os.environ.get(variables.FIRST_RANK, "0") or 0)
        facts: dict[str, Any] = {"rank": rank, "node": me.node if me else "", "failure": failure_kind(error).value}
        facts |= {} if step is None else {"step": step}
        try:
            run.append(
                "rank_failed", f"rank {rank}", me.attempt if me else None, message=describe_failure(error), **facts
            )
        except OSError as problem:
            print(f"cannot record this failure in the run folder: {problem}", file=sys.stderr)
    if isinstance(error, UserError):
        return error.exit_code
    return ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.RUN_FAILED


def exit_at_once(status: int) -> None:
    """End the process without the exit handlers of libraries, which would wait for peers that wait for this process."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status not in (ExitCode.DONE, ExitCode.REQUEUE):
        finish_pending_writes(PENDING_SECONDS)
        exit_at_once(int(status))
    sys.exit(int(status))
