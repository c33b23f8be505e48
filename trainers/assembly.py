"""Puts a run together in this process: data, model, step and learning rates, from the experiment and the strategy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.learning.weights import WarmStart
from saman.configs.schemas.training import Train, global_batch_size
from saman.runs.ranks.training_events import DataNotice
from saman.runs.records.provenance import DataIdentity
from saman.runs.records.training_facts import TrainingFacts
from saman.trainers import keras_compat, models
from saman.trainers.data.identity import identity_of
from saman.trainers.data.interface import Splits
from saman.trainers.data.parts import RunData
from saman.trainers.loop.interfaces import Feeds, OptimizerStep
from saman.trainers.loop.rates import custom
from saman.trainers.loop.rates.by_step import Rates
from saman.trainers.loop.step import DataParallelStep
from saman.trainers.models import layers
from saman.trainers.program import program
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.program.objective import Objective
from saman.trainers.program.several import objective_of
from saman.trainers.strategies.base import Strategy
from saman.trainers.strategies.horovod import HorovodStrategy
from saman.trainers.strategies.parameter_server import ParameterServerStrategy
from saman.trainers.user_code.context import Context


@dataclass(frozen=True)
class PreparedData:
    """The examples of a run, counted and described.

    Attributes:
        splits: Returns the data of an epoch.
        feeds: The batches of the run.
        element_spec: The spec of a batch of raw (inputs, labels), or (inputs, labels, weights).
        input_shape: The shape of the model's inputs without the batch axis: a tuple, or a nest of tuples.
        notices: What users should know about how the data are read.
        identity: The identity of the files, on the chief; ``None`` without files.
        context: What users' functions may ask for.
        train: The training's section of the experiment.
    """

    splits: Callable[[int], Splits]
    feeds: Feeds
    element_spec: tuple[Any, ...]
    input_shape: Any
    notices: tuple[DataNotice, ...]
    identity: DataIdentity | None = None
    context: Context | None = None
    train: Train | None = None

    def objective(self, model: Any) -> Objective:
        """Return the objective of the run for its model, with its metrics checked; call it outside of any scope.

        Raises:
            UserError: A loss or a metric does not take its arguments, or cannot be summed over ranks.
        """
        assert self.train is not None
        built = objective_of(self.train, self.context)
        if self.train.metrics or self.train.outputs:
            inputs = program.normalized_spec(self.element_spec[0], self.splits(0).normalize)
            built.prepare(self.element_spec[1], keras_compat.output_spec(model, inputs))
        return built


def divided_batch_size(experiment: Experiment, size: int) -> int:
    """Return the number of examples per step for ``size`` ranks, when a training is assembled.

    Raises:
        UserError: The batch does not divide evenly over ranks and micro-batches.
    """
    train = experiment.train
    batch = global_batch_size(train.global_batch_size, train.batch_size_per_rank, size)
    parts = size // experiment.stages * train.micro_batches
    if batch % parts and experiment.launch.elastic is None:
        raise UserError(
            f"a global batch of {batch} cannot be split evenly over {size} ranks ({experiment.stages} per replica) "
            f"× {train.micro_batches} micro-batches",
            where="train.global_batch_size",
            remedy=f"use a multiple of {parts}",
        )
    return batch


def prepare(experiment: Experiment, strategy: Strategy, artefacts: Path | None = None) -> PreparedData:
    """Assemble the data of a training: load and count the examples.

    Args:
        experiment: The experiment.
        strategy: The strategy of this process.
        artefacts: Where users' functions leave files.

    Raises:
        UserError: The data do not follow the interface of ``Splits``, or the parts differ.
    """
    context = Context(experiment.train.seed, 0, strategy.ranks[0], strategy.size, artefacts)
    data = RunData(experiment.data, divided_batch_size(experiment, strategy.size), context)
    feeds = Feeds(
        train=partial(data.feed, "train"),
        validation=partial(data.held_out, "validation"),
        test=partial(data.held_out, "test"),
        steps_per_epoch=data.feed("train").steps,
    )
    spec = data.element_spec
    _check_labels(spec[1], experiment.train)
    shape = program.example_shape(program.normalized_spec(spec[0], data.splits(0).normalize))
    if not strategy.chief:
        return PreparedData(data.splits, feeds, spec, shape, (), context=context, train=experiment.train)
    identity = identity_of(data.splits(0), experiment.data.hashes)
    return PreparedData(data.splits, feeds, spec, shape, data.notices(identity), identity, context, experiment.train)


def _check_labels(spec: Any, train: Train) -> None:
    if isinstance(spec, (dict, tuple)) and not train.outputs:
        remedy = "return a single tensor of labels, or describe the outputs: train.outputs: {NAME: {loss: ...}}"
        raise UserError("labels have several parts", where="data.source", remedy=remedy)


def build_step(experiment: Experiment, strategy: Any, prepared: PreparedData) -> OptimizerStep:
    """Assemble the model, its optimiser and the step under the strategy's scope; all ranks call it together.

    Args:
        experiment: The experiment.
        strategy: The strategy of this process.
        prepared: The examples, the shape of an input, and the types of a batch.
    """
    if experiment.train.strategy == "pipeline":
        from saman.trainers.pipeline.build import build_step as build_pipeline

        if len(prepared.element_spec) == 3:
            problem = "a pipeline takes no weights of examples"
            raise UserError(problem, where="data", remedy="remove the weights, or choose another strategy")

        return build_pipeline(experiment, strategy, prepared)
    normalize, spec = prepared.splits(0).normalize, prepared.element_spec
    with strategy.scope():
        model = models.build(experiment.model, prepared.input_shape, prepared.context)
        layers.freeze(model, experiment.train.freeze)
    if experiment.train.warm_start is not None and (strategy.chief or not isinstance(strategy, HorovodStrategy)):
        _warm_start(model, experiment.train.warm_start)  # Horovod's other ranks get the chief's weights
    objective = prepared.objective(model)
    with strategy.scope():
        built = program.build(experiment.train, model, spec, normalize, objective, prepared.context)
    train, scale = experiment.train, LossScale(experiment.train.precision)
    if strategy.name == "elastic":
        from saman.trainers.loop.elastic_step import ElasticStep

        every = train.compare_ranks_every
        return ElasticStep(built, strategy, train.micro_batches, scale, train.jit_compile, every)
    apart = None
    if isinstance(strategy, ParameterServerStrategy):
        from saman.trainers.loop.parameter_server_step import ParameterServerStep

        return ParameterServerStep(built, strategy, train.micro_batches, scale)
    if isinstance(strategy, HorovodStrategy):
        examples = divided_batch_size(experiment, strategy.size) / strategy.size
        apart = strategy.gradient_exchange(train.exchange, examples)
    return DataParallelStep(
        built,
        strategy,
        train.micro_batches,
        scale,
        stamps=not train.deterministic,  # TensorFlow refuses its clock then
        jit_compile=train.jit_compile,
        compare_every=train.compare_ranks_every,
        gradient_exchange=apart,
    )


def _warm_start(model: Any, spec: WarmStart) -> None:
    from saman.trainers.models.warm_start import load_into

    load_into(model, spec)


def learning_rates(experiment: Experiment, strategy: Strategy, prepared: PreparedData) -> Rates:
    """Assemble a training's learning rate of every step, and the number of steps.

    Args:
        experiment: The experiment.
        strategy: The strategy; its number of ranks sets the global batch size.
        prepared: The examples; they set the number of steps per epoch.

    Raises:
        UserError: The batch does not divide evenly over ranks and micro-batches.
    """
    train, per_epoch = experiment.train, prepared.feeds.steps_per_epoch
    steps = train.epochs * per_epoch
    steps = min(steps, train.max_steps) if train.max_steps else steps
    batch = divided_batch_size(experiment, strategy.size)
    factor = custom.factor_of(train.learning_rate.schedule, steps, per_epoch, prepared.context)
    return Rates(train.learning_rate, batch, per_epoch, steps, factor)


def training_facts(experiment: Experiment, strategy: Strategy, prepared: PreparedData) -> TrainingFacts:
    """Return what determines the steps of the assembled training; a checkpoint continues only where these are equal.

    Args:
        experiment: The experiment.
        strategy: The strategy; its number of ranks sets the global batch size.
        prepared: The examples; they set the number of steps per epoch.
    """
    train = experiment.train
    return TrainingFacts(
        model=experiment.model.model_dump(mode="json"),
        data=experiment.data.determining(),
        optimizer=train.optimizer.model_dump(mode="json"),
        global_batch_size=divided_batch_size(experiment, strategy.size),
        steps_per_epoch=prepared.feeds.steps_per_epoch,
        loss=train.loss,
        precision=train.precision,
        seed=train.seed,
        more=_further_facts(train),
    )


def _further_facts(train: Train) -> dict[str, Any]:
    """Return what else determines the steps, where it is not the default: older checkpoints do not name it."""
    names = {"loss_args", "label_smoothing", "outputs", "freeze", "layer_rates", "ema"}
    return train.model_dump(mode="json", by_alias=True, include=names, exclude_defaults=True)
