"""The parts of a run's data (training, validation, test) as feeds; what all epochs share is prepared once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.data.section import Data
from saman.runs.ranks.training_events import DataNotice
from saman.runs.records.provenance import DataIdentity
from saman.trainers.data import augmentation, checks, drift, feed, sources, stream_cost, weights
from saman.trainers.data.feed import Feed, Slice
from saman.trainers.data.interface import RandomAccess, Splits
from saman.trainers.keras_compat import tf
from saman.trainers.user_code.context import Context

Part = Literal["train", "validation", "test"]
HELD_OUT: tuple[Part, ...] = ("validation", "test")
_MOST_NAMED = 3  # damaged places in a notice


class RunData:
    """Makes the feeds of a run.

    Attributes:
        data: The section of the experiment.
        counts: The number of examples of each part that there is.
    """

    def __init__(self, data: Data, global_batch_size: int, context: Context) -> None:
        """Load the data of the first epoch and count the examples.

        Args:
            data: The section of the experiment.
            global_batch_size: Examples per step.
            context: The context of the first epoch.

        Raises:
            UserError: The data do not follow the interface of ``Splits``.
        """
        self.data, self._batch, self._context = data, global_batch_size, context
        self.splits = lru_cache(maxsize=1)(self._load)  # validation reuses what training has just loaded
        self._augmented = lru_cache(maxsize=1)(self._augment)  # the same map in every epoch keeps the pipeline
        first = self.splits(0)
        self._class_weights = weights.class_table(data.class_weights, first.train, context.seed)
        train, self._had_to_count = feed.count(first.train, "data.source: train")
        self.counts: dict[Part, int] = {"train": train}
        for part in HELD_OUT:
            if getattr(first, part) is not None:
                self.counts[part] = feed.count(getattr(first, part), f"data.source: {part}")[0]
        if data.augment:
            plain = self._plain_feed("train", 0, map=first.map)
            augmentation.require_images(data.augment, plain.batched(Slice(0, 1)).element_spec[0])

    def feed(self, part: Part, epoch: int = 0) -> Feed:
        """Return the feed of a part; only training examples depend on the epoch."""
        weigh = None
        if self._weighted:
            weigh = weights.weigher(self._class_weights if part == "train" else None)
        return self._plain_feed(part, epoch, weigh=weigh)

    def held_out(self, part: Part, epoch: int = 0) -> Feed | None:
        """Return the feed of validation or test examples; ``None`` if there are none."""
        return self.feed(part, epoch) if part in self.counts else None

    @cached_property
    def element_spec(self) -> tuple[Any, ...]:
        """The spec of a batch: (inputs, labels), and weights if any part has them.

        Raises:
            UserError: The parts differ.
        """
        described = {part: _describe(spec[:2]) for part, spec in self._specs.items()}
        for part in self.counts:
            if described[part] != described["train"]:
                problem = f"training examples are {described['train']}, but {part} examples are {described[part]}"
                raise UserError(problem, where="data.source", remedy="give both the same shapes and dtypes")
        pair: tuple[Any, ...] = self._specs["train"][:2]
        return (*pair, tf.TensorSpec([None], tf.float32)) if self._weighted else pair

    def notices(self, identity: DataIdentity | None = None) -> tuple[DataNotice, ...]:
        """Say what users should know about the training data; measures a dataset without random access.

        Args:
            identity: The identity of the files.
        """
        first = self.splits(0)
        texts = []
        if self._had_to_count:
            texts.append("the number of training examples is unknown: every rank read all of them once to count")
        if is_reference(self.data.source) and "validation" not in self.counts and self.data.validation_fraction:
            texts.append(
                f"{self.data.source} returned no validation examples, so there is no validation: "
                "data.validation_fraction divides the built-in sources only"
            )
        if isinstance(first.train, RandomAccess):
            if first.train.lost:
                places = "; ".join(map(str, first.train.skipped[:_MOST_NAMED]))
                lost = f"{first.train.lost:,} damaged examples or files"
                texts.append(f"{lost} are left out (data.on_corrupt: skip): {places}")
        else:
            rate = stream_cost.examples_per_second(first.train)
            texts.append(stream_cost.describe_cost(self.counts["train"], rate))
            if first.map is None:
                texts.append("the training data have no map: every rank reads all examples and keeps its slice")
        texts += self._problems()
        if identity is not None and identity.differing:
            named = ", ".join(identity.differing[:_MOST_NAMED])
            texts.append(f"{len(identity.differing)} files differ from their Croissant description: {named}")
        return tuple(map(DataNotice, texts))

    def _problems(self) -> list[str]:
        """Return the problems of the data that are warnings; raises ``UserError`` for those that are errors."""
        reactions = self.data.checks.reactions()
        if self.data.source == "synthetic" or set(reactions.values()) == {"ignore"}:
            return []
        samples: dict[str, checks.PartSample] = {part: self._sample(part) for part in self.counts}
        found = list(checks.find_problems(samples))
        if self.data.checks.reference is not None:
            found += drift.find_drift(samples["train"], drift.read_reference(self.data.checks.reference))
        errors = [problem for problem in found if reactions[problem.check] == "error"]
        if errors:
            first, *others = (
                UserError(
                    problem.text, where=f"data.checks.{problem.check}", remedy="correct the data, or set it to warn"
                )
                for problem in errors
            )
            raise UserError(first.problem, where=first.where, remedy=first.remedy, others=others)
        return [f"data: {problem.text}" for problem in found if reactions[problem.check] == "warn"]

    def _sample(self, part: Part) -> checks.PartSample:
        """Return some examples of a part before augmentation: drawn, or the first where reading costs the most."""
        now, count = self.splits(0), self.counts[part]
        bytes_each = sum(spec.shape[1:].num_elements() or 1 for spec in tf.nest.flatten(self.element_spec)) * 4
        size = max(1, min(count, checks.MOST_EXAMPLES, checks.MOST_BYTES // bytes_each))
        feed = self._plain_feed(
            part,
            0,
            global_batch_size=size,
            shuffle=isinstance(getattr(now, part), RandomAccess) and size < count,
            map=now.map if part == "train" else now.validation_map,
        )
        inputs, labels, *_ = next(iter(feed.batched(Slice(0, 1))))
        arrays = [np.asarray(values) for values in tf.nest.flatten(inputs)]
        names = sorted(inputs) if isinstance(inputs, dict) else [f"inputs_{number}" for number in range(len(arrays))]
        named = {"inputs": arrays[0]} if len(arrays) == 1 else dict(zip(names, arrays, strict=True))
        return checks.PartSample(named, np.asarray(tf.nest.flatten(labels)[0]))

    @cached_property
    def _specs(self) -> dict[Part, Any]:
        return {part: self._plain_feed(part, 0).batched(Slice(0, 1)).element_spec for part in self.counts}

    @property
    def _weighted(self) -> bool:
        return self._class_weights is not None or any(len(spec) == 3 for spec in self._specs.values())

    def _load(self, epoch: int) -> Splits:
        return sources.load(self.data, self._context.at_epoch(epoch))

    def _augment(self, inner: Callable[..., Any] | None, maps_batches: bool) -> Callable[..., Any] | None:
        steps = self.data.augment
        return augmentation.augmented(steps, inner, maps_batches) if steps else inner

    def _plain_feed(self, part: Part, epoch: int, **changes: Any) -> Feed:
        """Return the feed of a part; ``changes`` are fields of ``Feed`` that differ."""
        now, train = self.splits(epoch), part == "train"
        fields = {
            "dataset": getattr(now, part),
            "examples": self.counts[part],
            "global_batch_size": self._batch,
            "seed": self._context.seed,
            "epoch": epoch if train else 0,
            "shuffle": train and self.data.shuffle,
            "map": self._augmented(now.map, now.maps_batches) if train else now.validation_map,
            "maps_batches": now.maps_batches,
            "where": f"data.source: {part}",
        }
        return Feed(**{**fields, **changes})


def _describe(spec: Any) -> Any:
    return tf.nest.map_structure(lambda part: (part.dtype.name, tuple(part.shape[1:])), spec)
