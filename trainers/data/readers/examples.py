"""``tf.train.Example`` records as examples: parsed a batch at a time, images decoded one by one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from saman.configs.errors import UserError
from saman.trainers.data.interface import RandomAccess
from saman.trainers.data.readers.damage import DataDamage, find_cause_with
from saman.trainers.data.readers.images import decoded_image
from saman.trainers.data.readers.tfrecord import RecentRecords
from saman.trainers.keras_compat import tf


@dataclass(frozen=True)
class Field:
    """A feature: ``image``, ``float32`` or ``int64``, or the type of an array stored as bytes; and its shape."""

    dtype: str
    shape: tuple[int, ...] = ()

    def spec(self) -> Any:
        """Return what ``tf.io.parse_example`` needs to know."""
        if self.dtype in ("float32", "int64"):
            return tf.io.FixedLenFeature(self.shape, self.dtype)
        return tf.io.FixedLenFeature([], tf.string)

    def from_bytes(self, values: Any) -> Any:
        """Return a parsed batch as an array; images stay encoded."""
        if self.dtype in ("float32", "int64", "image"):
            return values
        kind = tf.as_dtype(self.dtype.removeprefix("raw_"))
        return tf.ensure_shape(tf.reshape(tf.io.decode_raw(values, kind), [-1, *self.shape]), [None, *self.shape])


@dataclass(frozen=True)
class Layout:
    """Which features make an example; several inputs become a dictionary."""

    features: Mapping[str, Field]
    inputs: str | tuple[str, ...]
    label: str
    weight: str | None = None

    @property
    def names(self) -> list[str]:
        """The features that are parsed."""
        inputs = [self.inputs] if isinstance(self.inputs, str) else list(self.inputs)
        return [*inputs, self.label, *([self.weight] if self.weight else [])]

    def parse(self, records: Any) -> Any:
        """Return a batch of records as (inputs, labels) or (inputs, labels, weights)."""
        found = tf.io.parse_example(records, {name: self.features[name].spec() for name in self.names})
        values = {name: self.features[name].from_bytes(found[name]) for name in self.names}
        inputs = values[self.inputs] if isinstance(self.inputs, str) else {name: values[name] for name in self.inputs}
        rest = [values[self.label]] + ([values[self.weight]] if self.weight else [])
        return (inputs, *rest)

    def decoder(self) -> Callable[..., Any] | None:
        """Return a map that decodes the images of an example; ``None`` if it has none."""
        names = [name for name in self.names if self.features[name].dtype == "image"]
        if not names:
            return None

        def image(name: str, value: Any) -> Any:
            field = self.features[name]
            return decoded_image(value, field.shape[:2], field.shape[2]) if field.dtype == "image" else value

        def decode(inputs: Any, *rest: Any) -> Any:
            if isinstance(self.inputs, str):
                return (image(self.inputs, inputs), *rest)
            return ({name: image(name, value) for name, value in inputs.items()}, *rest)

        return decode


def parsed(records: RandomAccess, layout: Layout, where: str, recent: RecentRecords | None = None) -> RandomAccess:
    """Return serialized ``tf.train.Example`` records as examples.

    Args:
        records: The records.
        layout: How they become examples.
        where: The key of the experiment, for messages.
        recent: The records that were read last; with it, a record that does not fit is named when training fails.

    Raises:
        UserError: The first record does not have the features of the layout.
    """
    found = replace(records, read=lambda positions: layout.parse(records.read(positions)))
    if records.examples:
        problem = _misfit(layout, records.read(tf.constant([0], tf.int64))[0])
        if problem:
            problem = f"the first record does not have these features: {problem}"
            raise UserError(problem, where=where, remedy="describe the features as they were written")
    if recent is not None:
        find_cause_with(lambda: _first_misfit(layout, recent))
    return found


def _first_misfit(layout: Layout, recent: RecentRecords) -> UserError | None:
    try:
        for file, place, data in recent:
            problem = _misfit(layout, data)
            if problem:
                return DataDamage(file, f"this record lacks the features of data.args: {problem}", place).error()
    except UserError as damaged:  # the record cannot even be read
        return damaged
    return None


def _misfit(layout: Layout, record: Any) -> str:
    """Return why a record does not fit the layout; empty if it does."""
    try:
        parts = layout.parse(tf.stack([record]))
        if (decode := layout.decoder()) is not None:
            decode(*tf.nest.map_structure(lambda values: values[0], parts))
    except (tf.errors.InvalidArgumentError, ValueError) as error:
        return _telling(error)
    return ""


def _telling(error: Exception) -> str:
    """Return TensorFlow's message without the name of the operation."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rpartition("}} ")[2].removesuffix(" [Op:ParseExampleV2] name: ")
