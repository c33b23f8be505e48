"""``python -m saman.trainers.worker RUN``: what each process of a run runs, whoever started it.

Exit codes: 0 done, 1 failed, 2 and 3 mistakes and lacks that only a rank could find, 85 checkpointed on request.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saman.configs.errors import ExitCode, UserError
from saman.configs.files import explained
from saman.runs import variables
from saman.runs.folder import RunFolder
from saman.runs.ranks.heartbeats import Heartbeat
from saman.runs.records.summary import Summary
from saman.trainers.failures import failure_of, message_of
from saman.trainers.identity import RankIdentity, identity

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.trainers.assembly import PreparedData
    from saman.trainers.loop.loop import Loop, LoopObserver
    from saman.trainers.strategies.base import Strategy


def main(arguments: list[str]) -> int:
    """Train the run folder named by the only argument; returns the exit code."""
    if len(arguments) != 1:
        print("usage: python -m saman.trainers.worker RUN", file=sys.stderr)
        return ExitCode.BAD_REQUEST
    heartbeat = Heartbeat.from_environment()
    run, me = None, None
    try:
        run = RunFolder.open(Path(arguments[0]))
        experiment = run.experiment()
        me = identity(os.environ, experiment.devices_per_process, experiment.resources.ranks)
        _find_user_code(run, me)
        code = _train(run, experiment, me, heartbeat)
    except BaseException as error:
        return _failed(run, me, error)
    if heartbeat is not None:
        heartbeat.close()
    return code


def _find_user_code(run: RunFolder, me: RankIdentity) -> None:
    """Folders of the user's code come last, so that they hide nothing."""
    for folder in me.code_path or [str(path) for path in run.code_path] or [str(Path.cwd())]:
        if folder not in sys.path:
            sys.path.append(folder)


def _train(run: RunFolder, experiment: Experiment, me: RankIdentity, heartbeat: Heartbeat | None) -> int:
    from saman.trainers import strategies

    strategy = strategies.start(experiment, run)
    attempt = me.attempt or _attempt_by_hand(run, strategy)
    watch = heartbeat or _Nobody()
    began = time.time()
    with explained(run.path, "the run folder"):
        loop, finished = train_on(strategy, run, experiment, attempt, watch)
    if not me.supervised and strategy.chief:
        _keep_books(run, attempt, finished, dict(loop.position.metrics), time.time() - began)
    strategy.close()
    return ExitCode.DONE if finished else ExitCode.REQUEUE


def train_on(
    strategy: Strategy, run: RunFolder, experiment: Experiment, attempt: int, watch: LoopObserver, exported: bool = True
) -> tuple[Loop, bool]:
    """Train a run on a strategy that has started, and export the model; also says whether training came to its end."""
    from saman.trainers import assembly, keras_compat
    from saman.trainers.loop import calibrate
    from saman.trainers.loop.loop import Loop, Surroundings
    from saman.trainers.loop.step import DataParallelStep
    from saman.trainers.loop.telemetry import TelemetryWriter

    train, chief = experiment.train, strategy.chief
    keras_compat.begin(train.seed, train.precision)
    prepared = assembly.prepare(experiment, strategy)
    step = assembly.build_step(experiment, strategy, prepared)

    def event(kind: str, **facts: Any) -> None:
        run.append(kind, f"rank {strategy.ranks[0]}", attempt, **facts)

    for note in (*({"text": text} for text in prepared.notes), *step.notes) if chief else ():
        event("notice", **note)
    file = run.attempt(attempt).telemetry(strategy.ranks[0])
    telemetry = TelemetryWriter(file, strategy.ranks, strategy.size, train.telemetry_window_steps, chief)
    facts = assembly.facts(experiment, strategy, prepared)
    around = Surroundings(run.checkpoints, facts, experiment.metrics(), run.stop_request, event, watch, telemetry)
    rates = assembly.rates(experiment, strategy, prepared)
    loop = Loop(train, strategy, step, prepared.feeds, rates, around)
    if train.calibrate_exchange and strategy.size > 1 and isinstance(step, DataParallelStep):
        watch.beat("compile", 0, 1, rates.steps)
        batches = [next(prepared.feeds.train(0).batches(part)) for part in step.slices]
        exchange = calibrate.measure(step, strategy, batches, train.calibrate_exchange)
        telemetry.exchange_seconds = exchange.exposed_seconds
        event("exchange_measured", rank=strategy.ranks[0], **exchange.facts())
    finished = loop.run()
    if finished and exported:
        watch.beat("export", loop.position.step, loop.position.epoch, rates.steps)
        _export(run, experiment, strategy, prepared, loop, event)
    return loop, finished


def _export(
    run: RunFolder,
    experiment: Experiment,
    strategy: Strategy,
    prepared: PreparedData,
    loop: Loop,
    event: Callable[..., None],
) -> None:
    from saman.trainers.export import writer

    sample = writer.sample_of(prepared)
    predictions = writer.predictions(loop.step, sample.inputs)
    state = loop.step.whole_state()
    if strategy.chief:
        writer.write(run.export, experiment, prepared, state, loop.position, sample, predictions)
        event("exported", path="export", metrics=dict(loop.position.metrics))


def _attempt_by_hand(run: RunFolder, strategy: Strategy) -> int:
    """The number of an attempt that no supervisor has made; the chief makes it."""
    from saman.trainers.strategies.base import agreed

    mine = run.new_attempt().number if strategy.chief else 0
    number = int(agreed(strategy, mine))
    if strategy.chief:
        run.append("attempt_started", "rank 0", number, method="by hand", ranks=strategy.size)
    return number


def _keep_books(run: RunFolder, attempt: int, finished: bool, metrics: dict[str, float], seconds: float) -> None:
    """What the supervisor would have written."""
    state = "completed" if finished else "preempted"
    run.write_summary(Summary(state, seconds=round(seconds, 3), metrics=metrics))
    run.append(state, "rank 0", attempt, seconds=round(seconds, 3))


class _Nobody:
    """Watches where no launcher does."""

    def beat(self, phase: str, step: int = 0, epoch: int = 0, total_steps: int | None = None) -> None:
        """Nothing."""


def _failed(run: RunFolder | None, me: RankIdentity | None, error: BaseException) -> int:
    """Say what went wrong, to the log and as an event; returns the exit code."""
    if isinstance(error, (SystemExit, KeyboardInterrupt)) and not isinstance(error, UserError):
        code = ExitCode.INTERRUPTED if isinstance(error, KeyboardInterrupt) else ExitCode.RUN_FAILED
    else:
        code = error.exit_code if isinstance(error, UserError) else ExitCode.RUN_FAILED
    if isinstance(error, UserError):
        print(f"saman: {error}", file=sys.stderr, flush=True)
    else:
        traceback.print_exception(error)
    if run is not None:
        rank = me.first_rank if me else int(os.environ.get(variables.FIRST_RANK, "0") or 0)
        about = {"rank": rank, "node": me.node if me else "", "failure": failure_of(error)}
        try:
            run.append("rank_failed", f"rank {rank}", me.attempt if me else None, message=message_of(error), **about)
        except OSError as problem:
            print(f"the event of this failure could not be written: {problem}", file=sys.stderr)
    return code


def _leave(code: int) -> None:
    """End at once after a failure: libraries' farewells would wait for peers that wait for us."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    status = main(sys.argv[1:])
    if status not in (ExitCode.DONE, ExitCode.REQUEUE):
        _leave(int(status))
    sys.exit(int(status))
