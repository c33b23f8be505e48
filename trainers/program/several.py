"""Models with several outputs: each has its loss, the weight of that loss, and its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.configs.schemas.training import Train
from saman.trainers.keras_compat import tf
from saman.trainers.program import losses, metrics
from saman.trainers.program.objective import BatchMeasures, Objective
from saman.trainers.program.sums import COUNT, LOSS, METRICS
from saman.trainers.user_code.context import Context

_OWN = 2  # of each output before its metrics: Σ loss, Σ correct


def objective_of(train: Train, context: Context | None = None) -> Objective:
    """Return the objective of the ``train`` part of an experiment, for a model with a single output or several.

    Args:
        train: The ``train`` part.
        context: What users' functions may ask for.

    Raises:
        UserError: A loss or a metric does not take its arguments, or cannot be summed over ranks.
    """
    if not train.outputs:
        return Objective.of(train, context)
    heads, weights = {}, {}
    for name, spec in train.outputs.items():
        where = f"train.outputs.{name}"
        function = losses.build(
            spec.loss, spec.loss_args, spec.from_logits, spec.label_smoothing, context, f"{where}.loss"
        )
        found = metrics.build(spec.metrics, spec.loss, context, f"{where}.metrics")
        heads[name] = Objective(spec.loss, spec.from_logits, function, found, f"{where}.loss")
        weights[name] = spec.weight
    return SeveralObjectives("several outputs", heads=heads, weights=weights)


@dataclass(frozen=True, kw_only=True)
class SeveralObjectives(Objective):
    """The objectives of several outputs; the loss is the weighted sum of theirs.

    Attributes:
        heads: The objective of each output.
        weights: The weight of each loss.
    """

    heads: Mapping[str, Objective]
    weights: Mapping[str, float]

    @property
    def width(self) -> int:
        """The numbers in a vector of measures."""
        return METRICS + sum(_OWN + head.metrics.width for head in self.heads.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the outputs, in the order of the experiment."""
        return tuple(self.heads)

    def prepare(self, labels: Any, outputs: Any) -> None:
        """Check the metrics of every output."""
        answers, found = part_by_name(labels, self.names, "labels"), part_by_name(outputs, self.names, "outputs")
        for name, head in self.heads.items():
            head.prepare(answers[name], found[name])

    def measure(self, labels: Any, outputs: Any, weights: Any = None) -> BatchMeasures:
        """Return the sums over a batch: the weighted loss, then loss, accuracy and metrics of each output."""
        answers, found = part_by_name(labels, self.names, "labels"), part_by_name(outputs, self.names, "outputs")
        each = {name: head.measure(answers[name], found[name], weights) for name, head in self.heads.items()}
        loss = tf.add_n([self.weights[name] * part.loss for name, part in each.items()])
        own = [tf.concat([tf.stack([part.loss, part.correct]), part.metrics], 0) for part in each.values()]
        return BatchMeasures(loss, tf.zeros([], tf.float64), next(iter(each.values())).examples, tf.concat(own, 0))

    def results(self, sums: np.ndarray) -> dict[str, float]:
        """Return the metrics, those of an output after its name."""
        count, at = float(sums[COUNT]), METRICS
        if not count:
            return {}
        found = {"loss": float(sums[LOSS] / count)}
        for name, head in self.heads.items():
            end = at + _OWN + head.metrics.width
            own = np.array([*sums[at : at + _OWN], count, 0.0, *sums[at + _OWN : end]])
            found |= {f"{name}_{key}": value for key, value in head.results(own).items()}
            at = end
        return found


def part_by_name(parts: Any, names: Sequence[str], what: str) -> dict[str, Any]:
    """Of several outputs, return the parts of labels or predictions by the names of the outputs.

    Args:
        parts: A dictionary with these keys, or a list in this order.
        names: The names.
        what: ``labels`` or ``outputs``, for the message.

    Raises:
        UserError: The parts do not match the names.
    """
    if isinstance(parts, Mapping) and set(names) <= set(parts):
        return {name: parts[name] for name in names}
    if isinstance(parts, (list, tuple)) and len(parts) == len(names):
        return dict(zip(names, parts, strict=True))
    held = ", ".join(parts) if isinstance(parts, Mapping) else f"{len(tf.nest.flatten(parts))} parts"
    remedy = f"a dictionary with the keys {', '.join(names)}, or a list in this order"
    raise UserError(f"the {what} are {held}", where="train.outputs", remedy=remedy)


def first_part(labels: Any, train: Train) -> Any:
    """Of several outputs, return the labels of the first; of a single output, its labels."""
    if not train.outputs:
        return labels
    return next(iter(part_by_name(labels, tuple(train.outputs), "labels").values()))
