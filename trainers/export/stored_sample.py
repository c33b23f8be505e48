"""The validation sample of an export: a bounded number of raw examples and what the trained model predicts for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from saman.configs.schemas.training import Train
from saman.trainers.assembly import PreparedData
from saman.trainers.export import census
from saman.trainers.keras_compat import tf
from saman.trainers.loop.interfaces import OptimizerStep
from saman.trainers.program.several import first_part, part_by_name

SAMPLE_EXAMPLES, SAMPLE_BYTES = 1000, 64 << 20
BATCH = 100


@dataclass(frozen=True)
class Sample:
    """A part of the validation examples, or of the training examples if there is no validation.

    Attributes:
        inputs: Raw inputs: an array, or a nest of arrays.
        labels: The labels.
        split: ``validation`` or ``train``.
    """

    inputs: Any
    labels: np.ndarray
    split: str

    @property
    def named(self) -> dict[str, np.ndarray]:
        """The inputs by their names in the serving signature."""
        return dict(zip(input_names(self.inputs), tf.nest.flatten(self.inputs), strict=True))

    def batches(self) -> Iterator[Any]:
        """Yield the inputs in batches of at most ``BATCH`` examples."""
        for start in range(0, len(self.labels), BATCH):
            yield tf.nest.map_structure(lambda array, start=start: array[start : start + BATCH], self.inputs)


def input_names(nest: Any) -> list[str]:
    """Return the inputs' names in the serving signature: ``inputs``, a dictionary's keys, or ``inputs_0``, …"""
    if isinstance(nest, dict):
        return sorted(nest)  # the order in which tf.nest flattens
    parts = len(tf.nest.flatten(nest))
    return ["inputs"] if parts == 1 else [f"inputs_{index}" for index in range(parts)]


def take_sample(prepared: PreparedData) -> Sample:
    """Return the first validation examples in their order; the same on every rank."""
    feed, split = prepared.feeds.validation(0), "validation"
    if feed is None:
        feed, split = prepared.feeds.train(0), "train"
    wanted = max(1, min(SAMPLE_EXAMPLES, SAMPLE_BYTES // max(1, census.example_bytes(prepared.element_spec))))
    inputs: list[Any] = []
    labels: list[np.ndarray] = []
    for batch_inputs, batch_labels in feed.whole_batches():
        inputs.append(tf.nest.map_structure(np.asarray, batch_inputs))
        labels.append(np.asarray(first_part(batch_labels, prepared.train) if prepared.train else batch_labels))
        if sum(len(batch) for batch in labels) >= wanted:
            break
    joined = tf.nest.map_structure(lambda *parts: np.concatenate(parts)[:wanted], *inputs)
    return Sample(joined, np.concatenate(labels)[:wanted], split)


def predict_sample(step: OptimizerStep, sample: Sample) -> Any:
    """Return the trained model's outputs for the sample, an array or a nest of arrays; all ranks call it together."""
    return tf.nest.map_structure(
        lambda *parts: np.concatenate(parts), *[step.predict(batch) for batch in sample.batches()]
    )


def outputs_by_name(outputs: Any, train: Train) -> dict[str, Any]:
    """Return outputs by their names in the serving signature.

    ``outputs`` is the only output, or the first of several, which also stand under their own names.
    """
    if not train.outputs:
        flat = tf.nest.flatten(outputs)
        return {"outputs": flat[0], **{f"outputs_{index}": part for index, part in enumerate(flat) if index}}
    named = part_by_name(outputs, tuple(train.outputs), "outputs")
    return {"outputs": next(iter(named.values())), **named}
