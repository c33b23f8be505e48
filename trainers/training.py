"""Trains a run folder on a strategy that has started, and exports the model."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saman.configs.schemas.experiment import Experiment
from saman.configs.units import parse_span
from saman.runs import variables
from saman.runs.checkpoints.interval import estimate_mtbf
from saman.runs.folder import RunFolder
from saman.runs.ranks.heartbeats import Phase
from saman.runs.ranks.training_events import EpochEnd, ModelExport, TrainingEvent
from saman.runs.records.provenance import Provenance
from saman.trainers import assembly, keras_compat
from saman.trainers.assembly import PreparedData
from saman.trainers.data.readers.damage import reported_error
from saman.trainers.export.stored_sample import predict_sample, take_sample
from saman.trainers.export.writer import TrainedModel, write_export
from saman.trainers.loop import calibrate, callbacks
from saman.trainers.loop.interfaces import LoopEnvironment, LoopObserver, OptimizerStep
from saman.trainers.loop.loop import Loop
from saman.trainers.loop.step import DataParallelStep
from saman.trainers.loop.telemetry import TelemetryWriter
from saman.trainers.strategies.base import Strategy
from saman.trainers.strategies.elastic import ElasticHorovod
from saman.trainers.user_code.blame import blamed

_log = logging.getLogger(__name__)

Record = Callable[[TrainingEvent], None]


@dataclass(frozen=True)
class TrainingResult:
    """The loop after a training; ``finished`` is ``False`` after a requested stop."""

    loop: Loop
    finished: bool


def train(
    run: RunFolder,
    experiment: Experiment,
    strategy: Strategy,
    attempt: int,
    observer: LoopObserver,
    export: bool = True,
) -> TrainingResult:
    """Train a run from its newest checkpoint; all ranks call it together.

    Args:
        run: The run folder.
        experiment: The run's experiment.
        strategy: A strategy that has started.
        attempt: The number of the attempt, for events and telemetry.
        observer: Receives the progress.
        export: Whether to export the model after the last step, if the experiment does not forbid it.

    Raises:
        UserError: The data, the model or the checkpoints do not match the experiment.
    """
    try:
        return _train(run, experiment, strategy, attempt, observer, export)
    except Exception as error:
        damaged = reported_error(error) if isinstance(error, keras_compat.tf.errors.OpError) else None
        found = damaged or blamed(error, experiment.resolved(), _code_folders(run), _own_rank(strategy))
        if found is None:
            raise
        raise found from error


def _code_folders(run: RunFolder) -> list[Path]:
    """Return the folders of the user's code."""
    given = os.environ.get(variables.CODE_PATH, "").split(os.pathsep)
    return [Path(folder) for folder in given if folder] or list(run.code_path) or [Path.cwd()]


def _train(
    run: RunFolder, experiment: Experiment, strategy: Strategy, attempt: int, observer: LoopObserver, export: bool
) -> TrainingResult:
    if experiment.train.deterministic:
        keras_compat.make_deterministic()
    keras_compat.start_session(experiment.train.seed, experiment.train.precision)
    prepared = assembly.prepare(experiment, strategy, run.artefacts)
    step = assembly.build_step(experiment, strategy, prepared)

    def record(event: TrainingEvent) -> None:
        run.append(event.kind, f"rank {_own_rank(strategy)}", attempt, **event.facts())

    if strategy.chief:
        for notice in (*prepared.notices, *step.notices):
            record(notice)
        _record_identity(run, attempt, prepared)
    environment = LoopEnvironment(
        checkpoints=run.checkpoints,
        training_facts=assembly.training_facts(experiment, strategy, prepared),
        metrics=experiment.metrics(),
        stop_request=run.stop_request,
        record=record,
        observer=observer,
        telemetry=_telemetry(run, experiment, strategy, attempt, step.width),
        callbacks=_callbacks(experiment, step, prepared),
        mtbf_seconds=estimate_mtbf(run.events(), parse_span(experiment.train.checkpoint.mtbf), time.time()),
        epochs_recorded=lambda: _epochs_recorded(run),
    )
    _log.debug("%s on ranks %s of %d", type(strategy).__name__, strategy.ranks, strategy.size)
    rates = assembly.learning_rates(experiment, strategy, prepared)
    loop = _loop_class(strategy)(experiment.train, strategy, step, prepared.feeds, rates, environment)
    _calibrate(experiment, strategy, step, prepared, environment, rates.steps)

    def complete(finished: bool) -> None:
        if finished and export and experiment.export:
            observer.beat(Phase.EXPORT, loop.position.step, loop.position.epoch, rates.steps)
            _export(run, experiment, strategy, prepared, loop, record)

    return TrainingResult(loop, loop.run(complete))


def _own_rank(strategy: Strategy) -> int:
    """The first rank of this process, as people know it; in an elastic run its slot, whatever the world."""
    return strategy.slot if isinstance(strategy, ElasticHorovod) else strategy.ranks[0]


def _loop_class(strategy: Strategy) -> type[Loop]:
    if strategy.name != "elastic":
        return Loop
    from saman.trainers.loop.elastic_loop import ElasticLoop

    return ElasticLoop


def _callbacks(experiment: Experiment, step: OptimizerStep, prepared: PreparedData) -> list[Any]:
    if not isinstance(step, DataParallelStep) or prepared.context is None:  # the schema refuses them for pipelines
        return []
    train = experiment.train
    model = step.program.model
    return callbacks.build(train.callbacks, model, prepared.context, train.epochs, prepared.feeds.steps_per_epoch)


def _epochs_recorded(run: RunFolder) -> int:
    ends = (EpochEnd.from_event(event) for event in run.events())
    return max((end.epoch for end in ends if end is not None), default=0)


def _record_identity(run: RunFolder, attempt: int, prepared: PreparedData) -> None:
    """Add the identity of the data to the provenance of the attempt."""
    if prepared.identity is not None:
        path = run.attempt(attempt).provenance
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(Provenance.read(path) or Provenance(), data=prepared.identity).write(path)


def _telemetry(run: RunFolder, experiment: Experiment, strategy: Strategy, attempt: int, width: int) -> TelemetryWriter:
    given = os.environ.get(variables.TELEMETRY)  # a file of this node's own, from which a launcher gathers it
    file = Path(given) if given else run.attempt(attempt).telemetry(strategy.ranks[0])
    steps = experiment.train.telemetry_window_steps
    return TelemetryWriter(file, strategy.ranks, strategy.size, steps, strategy.chief, width)


def _calibrate(
    experiment: Experiment,
    strategy: Strategy,
    step: OptimizerStep,
    prepared: PreparedData,
    environment: LoopEnvironment,
    total_steps: int,
) -> None:
    """Measure the exchange between ranks if the experiment requests it."""
    steps = experiment.train.calibrate_exchange
    if not steps or strategy.size == 1 or not isinstance(step, DataParallelStep):
        return
    environment.observer.beat(Phase.COMPILE, 0, 1, total_steps)
    batches = [next(prepared.feeds.train(0).batches(part)) for part in step.slices]
    measurement = calibrate.measure_exchange(step, strategy, batches, steps)
    environment.record(measurement)


def _export(
    run: RunFolder,
    experiment: Experiment,
    strategy: Strategy,
    prepared: PreparedData,
    loop: Loop,
    record: Record,
) -> None:
    """Export the model; all ranks predict the sample, the chief writes."""
    sample = take_sample(prepared)
    if experiment.train.ema is not None and experiment.train.ema.export:
        loop.step.swap_average()
    predictions = predict_sample(loop.step, sample)
    state = loop.step.whole_state()
    if strategy.chief:
        trained = TrainedModel(state=state, position=loop.position, sample=sample, predictions=predictions)
        write_export(run.export, experiment, prepared, trained)
        record(ModelExport(run.export.name, dict(loop.position.metrics)))
