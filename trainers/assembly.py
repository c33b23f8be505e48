"""Puts a run together in one process: data, model, step and loop, from the experiment and the strategy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from saman.configs.errors import UserError
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.training import global_batch_size
from saman.trainers import keras_compat, models
from saman.trainers.data import feed, sources
from saman.trainers.data.feed import Feed, Slice
from saman.trainers.data.interface import Context, RandomAccess, Splits
from saman.trainers.loop.loop import Feeds, OptimizerStep
from saman.trainers.loop.loss_scale import LossScale
from saman.trainers.loop.schedule import Rates
from saman.trainers.loop.step import DataParallelStep
from saman.trainers.program import program
from saman.trainers.strategies.base import Strategy

_WHERE = "data.source"


@dataclass(frozen=True)
class PreparedData:
    """The examples of a run, counted and described. ``notes`` are what a person should know about them."""

    splits: Callable[[int], Splits]
    feeds: Feeds
    element_spec: tuple[Any, Any]
    input_shape: Any
    notes: tuple[str, ...]


def divided_batch_size(experiment: Experiment, size: int) -> int:
    """Examples per step for ``size`` ranks. Raises ``UserError`` if they cannot be split evenly."""
    train = experiment.train
    batch = global_batch_size(train.global_batch_size, train.batch_size_per_rank, size)
    parts = size // experiment.stages * train.micro_batches
    if batch % parts:
        raise UserError(
            f"a global batch of {batch} cannot be split evenly over {size} ranks ({experiment.stages} per replica) "
            f"× {train.micro_batches} micro-batches",
            where="train.global_batch_size",
            remedy=f"a multiple of {parts}",
        )
    return batch


def prepare(experiment: Experiment, strategy: Strategy) -> PreparedData:
    """Load and count the data; raises ``UserError`` where they do not keep to the interface."""
    seed, batch = experiment.train.seed, divided_batch_size(experiment, strategy.size)

    @lru_cache(maxsize=1)  # validation takes what training has just loaded
    def splits(epoch: int) -> Splits:
        return sources.load(experiment.data, Context(seed, epoch, strategy.ranks[0], strategy.size))

    first = splits(0)
    examples, read = feed.count(first.train, f"{_WHERE}: train")
    notes = []
    if read:
        notes.append("the training data do not say how many they are: every rank read them once to count")
    if not isinstance(first.train, RandomAccess) and first.map is None:
        notes.append("the training data have no map: every rank reads them whole and keeps its slice")

    def train(epoch: int) -> Feed:
        now = splits(epoch)
        options = (now.map, now.maps_batches, f"{_WHERE}: train")
        return Feed(now.train, examples, batch, seed, epoch, experiment.data.shuffle, *options)

    held_out = None if first.validation is None else feed.count(first.validation, f"{_WHERE}: validation")[0]

    def validation(epoch: int) -> Feed | None:
        now = splits(epoch)
        if held_out is None:
            return None
        options = (now.validation_map, now.maps_batches, f"{_WHERE}: validation")
        return Feed(now.validation, held_out, batch, seed, 0, False, *options)

    spec = train(0).batched(Slice(0, 1)).element_spec
    known = validation(0)
    if known is not None:
        _same_kind(spec, known.batched(Slice(0, 1)).element_spec)
    shape = program.input_shape(program.normalized_spec(spec[0], first.normalize))
    return PreparedData(splits, Feeds(train, validation, train(0).steps), spec, shape, tuple(notes))


def _same_kind(train: Any, validation: Any) -> None:
    def plain(spec: Any) -> Any:
        return keras_compat.tf.nest.map_structure(lambda one: (one.dtype.name, tuple(one.shape[1:])), spec)

    if plain(train) != plain(validation):
        raise UserError(
            f"training examples are {plain(train)}, validation examples are {plain(validation)}", where=_WHERE
        )


def build_step(experiment: Experiment, strategy: Strategy, prepared: PreparedData) -> OptimizerStep:
    """The model, its optimiser and the step, under the strategy's scope."""
    if experiment.train.strategy == "pipeline":
        from saman.trainers.pipeline.build import build_step as build_pipeline

        return build_pipeline(experiment, strategy, prepared)
    with strategy.scope():
        built = program.build(
            experiment.train,
            lambda: models.build(experiment.model, prepared.input_shape),
            prepared.element_spec,
            prepared.splits(0).normalize,
        )
    scale = LossScale(experiment.train.precision)
    return DataParallelStep(built, strategy, experiment.train.micro_batches, scale)


def rates(experiment: Experiment, strategy: Strategy, prepared: PreparedData) -> Rates:
    """The learning rate of every step, and how many there are."""
    train, per_epoch = experiment.train, prepared.feeds.steps_per_epoch
    steps = train.epochs * per_epoch
    steps = min(steps, train.max_steps) if train.max_steps else steps
    return Rates(train.learning_rate, divided_batch_size(experiment, strategy.size), per_epoch, steps)


def facts(experiment: Experiment, strategy: Strategy, prepared: PreparedData) -> dict[str, Any]:
    """What decides the steps of a training: a checkpoint continues only where these are the same."""
    train = experiment.train
    return {
        "model": experiment.model.model_dump(mode="json"),
        "data": experiment.data.model_dump(mode="json"),
        "global_batch_size": divided_batch_size(experiment, strategy.size),
        "steps_per_epoch": prepared.feeds.steps_per_epoch,
        "optimizer": train.optimizer.model_dump(mode="json"),
        "loss": train.loss,
        "precision": train.precision,
        "seed": train.seed,
    }
