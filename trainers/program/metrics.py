"""Metrics as sums: what each batch adds to the state of a metric, so that any division of the examples gives the same.

A Keras metric starts at zero and adds to its variables. What a batch adds is computed from zero, without touching the
variables; it travels with the other sums of a step, and the metric is computed from the total.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.learning.components import Metric
from saman.configs.schemas.learning.keras_names import METRICS
from saman.trainers.keras_compat import KERAS_2, keras, tf
from saman.trainers.user_code.context import Context
from saman.trainers.user_code.functions import accepted, bind, import_function

_TRIAL = 6  # examples of the trial that shows whether a metric adds up
_TOLERANCE = 1e-4  # of the trial, relative
_CLASS_NUMBERS = ("iou", "mean_iou", "binary_iou")  # metrics that take labels as they are


class SummedMetric(Protocol):
    """A metric as a sum over examples."""

    @property
    def key(self) -> str:
        """The name in results."""

    @property
    def width(self) -> int:
        """The numbers of its state."""

    def sums(self, labels: Any, outputs: Any) -> Any:
        """Return float64[width], what a batch adds; called in a graph."""

    def result(self, sums: np.ndarray, examples: float) -> float:
        """Return the metric for float64[width] sums over a number of examples."""


@dataclass(frozen=True)
class MeanPerExample:
    """The mean of a function's values, one for each example."""

    key: str
    function: Callable[[Any, Any], Any]
    where: str
    width: int = 1

    def sums(self, labels: Any, outputs: Any) -> Any:
        """Return the sum of the values."""
        values = tf.cast(tf.convert_to_tensor(self.function(labels, outputs)), tf.float64)
        if values.shape.rank == 0:
            remedy = "return a value per example; saman takes the mean over all examples of all ranks"
            raise UserError(f"{self.key} returned a single number for a batch", where=self.where, remedy=remedy)
        if values.shape.rank > 1:
            values = tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))
        return tf.reduce_sum(values)[tf.newaxis]

    def result(self, sums: np.ndarray, examples: float) -> float:
        """Return the mean."""
        return float(sums[0] / examples)


class KerasState:
    """A Keras 3 metric whose variables add up."""

    def __init__(self, key: str, metric: Any, fit_labels: Callable[[Any, Any], Any], where: str) -> None:
        """Wrap a metric of Keras 3; its variables stay at zero.

        Args:
            key: The name in results.
            metric: The ``keras.metrics.Metric``.
            fit_labels: Gives labels the form that the metric takes beside outputs.
            where: The part of the experiment, for messages.
        """
        self.key, self._metric, self._fit, self._where = key, metric, fit_labels, where
        self.width = 0
        self._shapes: list[tuple[int, ...]] = []

    def prepare(self, labels: Any, outputs: Any) -> None:
        """Make the variables, and check that they add up, with an example of labels and outputs.

        Args:
            labels: Labels of a few examples.
            outputs: Outputs for them.

        Raises:
            UserError: The metric cannot be computed from these, does not add up, or is no single number.
        """
        half = _TRIAL // 2
        parts = ((labels[:half], outputs[:half]), (labels[half:], outputs[half:]))
        try:
            self._metric.update_state(self._fit(labels, outputs), self._taken(outputs))
            self._metric.reset_state()
            self._shapes = [tuple(variable.shape) for variable in self._metric.variables]
            self.width = sum(int(np.prod(shape)) for shape in self._shapes)
            whole, *pieces = (np.asarray(self.sums(*part)) for part in ((labels, outputs), *parts))
            value = np.asarray(self._metric.stateless_result(self._state(whole)))
        except Exception as error:
            described = f"labels {_describe(labels)} and outputs {_describe(outputs)}"
            problem = f"{self.key} cannot be computed from {described}: {str(error).splitlines()[0]}"
            raise UserError(problem, where=self._where, remedy="another metric, or other args") from error
        zeros = all(not np.any(np.asarray(variable.value)) for variable in self._metric.variables)
        if not zeros or not np.allclose(whole, sum(pieces), rtol=_TOLERANCE, atol=_TOLERANCE):
            problem = f"the state of {self.key} does not add up: ranks cannot compute it together"
            raise UserError(problem, where=self._where, remedy="a metric whose variables start at 0 and only add")
        if value.ndim:
            problem = f"{self.key} gives {value.shape} numbers"
            raise UserError(problem, where=self._where, remedy="a single number, such as average: macro in args")

    def sums(self, labels: Any, outputs: Any) -> Any:
        """Return what a batch adds to the variables, flat."""
        variables = self._metric.variables
        zeros = [tf.zeros(variable.shape, variable.dtype) for variable in variables]
        added = self._metric.stateless_update_state(zeros, self._fit(labels, outputs), self._taken(outputs))
        return tf.concat([tf.reshape(tf.cast(value, tf.float64), [-1]) for value in added], 0)

    def _taken(self, outputs: Any) -> Any:
        """Return outputs in a type that the metric takes: TensorFlow finds the largest k of float32 only."""
        return tf.cast(outputs, tf.float32) if "TopK" in type(self._metric).__name__ else outputs

    def result(self, sums: np.ndarray, examples: float) -> float:
        """Return the metric for the total of the variables."""
        return float(np.asarray(self._metric.stateless_result(self._state(sums))))

    def _state(self, sums: np.ndarray) -> list[Any]:
        edges = np.cumsum([0, *(int(np.prod(shape)) for shape in self._shapes)])
        return [
            tf.cast(tf.reshape(tf.constant(sums[begin:end]), shape), variable.dtype)
            for begin, end, shape, variable in zip(edges, edges[1:], self._shapes, self._metric.variables, strict=False)
        ]


class MetricSums:
    """The metrics of an output, one behind the other in a vector."""

    def __init__(self, metrics: Sequence[SummedMetric]) -> None:
        self.metrics = tuple(metrics)

    @property
    def width(self) -> int:
        """The numbers of all states together."""
        return sum(metric.width for metric in self.metrics)

    def prepare(self, labels: Any, outputs: Any) -> None:
        """Check the metrics on an example of labels and outputs, before any graph is traced."""
        for metric in self.metrics:
            if isinstance(metric, KerasState):
                metric.prepare(labels, outputs)

    def sums(self, labels: Any, outputs: Any) -> Any:
        """Return float64[width], what a batch adds."""
        if not self.metrics:
            return tf.zeros([0], tf.float64)
        return tf.concat([metric.sums(labels, outputs) for metric in self.metrics], 0)

    def results(self, sums: np.ndarray, examples: float) -> dict[str, float]:
        """Return the metrics by name for float64[width] sums over a number of examples."""
        found, at = {}, 0
        for metric in self.metrics:
            found[metric.key] = metric.result(sums[at : at + metric.width], examples)
            at += metric.width
        return found


def build(specs: Sequence[Metric], loss: str, context: Context | None, where: str = "train.metrics") -> MetricSums:
    """Return the metrics of an experiment.

    Args:
        specs: The metrics.
        loss: The loss of their output, which says what labels are.
        context: What users' functions may ask for.
        where: The part of the experiment, for messages.

    Raises:
        UserError: A metric does not take its arguments, or this Keras cannot sum it over ranks.
    """
    return MetricSums([_summed(spec, loss, context, f"{where}.{spec.key}") for spec in specs])


def _summed(spec: Metric, loss: str, context: Context | None, where: str) -> SummedMetric:
    offered = {"ctx": context}
    if is_reference(spec.name):
        function = import_function(spec.name, where)
        offer = accepted(function, offered)
        if not inspect.isclass(function) and _takes_pairs(function, {**spec.args, **offer}):
            args = {**spec.args, **offer}
            return MeanPerExample(spec.key, lambda labels, outputs: function(labels, outputs, **args), where)
        bound = bind(function, where, **spec.args, **offer)
        metric = function(*bound.args, **bound.kwargs)
        if not isinstance(metric, keras.metrics.Metric):
            problem = f"{spec.name} returned {type(metric).__name__}"
            raise UserError(problem, where=where, remedy="a value per example, or a keras.metrics.Metric")
    else:
        kind = getattr(keras.metrics, METRICS[spec.name], None)
        if kind is None:
            raise UserError(f"this Keras has no {METRICS[spec.name]}", where=where, remedy="Keras 3")
        try:
            metric = kind(**spec.args)
        except (TypeError, ValueError) as error:
            raise UserError(f"{spec.name}: {error}", where=f"{where}.args") from error

    def fit(labels: Any, outputs: Any) -> Any:
        return _labels_for(spec.name, labels, outputs)

    if KERAS_2:
        return _mean_of_keras_2(spec.key, metric, fit, where)
    return KerasState(spec.key, metric, fit, where)


def _mean_of_keras_2(key: str, metric: Any, fit: Callable[[Any, Any], Any], where: str) -> SummedMetric:
    if not isinstance(metric, keras.metrics.MeanMetricWrapper):
        remedy = "TensorFlow 2.16 or newer, or a function that returns a value per example"
        raise UserError(f"{key} cannot be summed over ranks with Keras 2", where=where, remedy=remedy)
    function, options = metric._fn, metric._fn_kwargs
    return MeanPerExample(key, lambda labels, outputs: function(fit(labels, outputs), outputs, **options), where)


def _takes_pairs(function: Callable[..., Any], args: dict[str, Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None, **args)
    except TypeError:
        return False
    return True


def _labels_for(name: str, labels: Any, outputs: Any) -> Any:
    """Return labels in the form that a metric takes: class numbers or rows of classes, whichever it compares."""
    if name in _CLASS_NUMBERS or is_reference(name):
        return labels
    classes, sparse = outputs.shape[-1], name.startswith("sparse_")
    whole = labels.dtype.is_integer and labels.shape.rank == outputs.shape.rank - 1
    if sparse and labels.shape.rank == outputs.shape.rank and classes != 1:
        return tf.argmax(labels, -1)
    if not sparse and whole and classes != 1:
        return tf.one_hot(labels, classes)
    return labels


def _describe(tensor: Any) -> str:
    return f"{tensor.dtype.name}{list(tensor.shape)[1:]}"
