"""Losses, metrics, optimisers and callbacks by Keras' name or ``package.module:function``, with arguments."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, NonNegativeFloat, field_validator, model_validator

from saman.configs.errors import choices
from saman.configs.names import is_reference
from saman.configs.problems import Strict
from saman.configs.schemas.learning.keras_names import CALLBACKS, CLASSIFICATION, LOSSES, METRICS, OWN_KEYS, own_name

Smoothing = Annotated[float, Field(ge=0, lt=1)]


def checked(name: str, known: Collection[str]) -> str:
    """Return the name of a loss, metric, optimiser or schedule if it is known or refers to user code.

    Raises:
        ValueError: It is neither.
    """
    if name in known or is_reference(name):
        return name
    problem = f"{name!r} is neither Keras' nor a reference such as package.module:function"
    raise ValueError(f"{problem}; {choices(name, known)}")


def under_own_name(value: Any, known: Collection[str]) -> Any:
    """Turn a name, alone or in a mapping, into a mapping with the name that experiments use."""
    value = by_name_alone(value)
    name = value.get("name") if isinstance(value, dict) else None
    return {**value, "name": own_name(name, known)} if isinstance(name, str) else value


def by_name_alone(value: Any) -> Any:
    """Turn the name alone of a loss, metric or other part of learning into a mapping with that name."""
    return {"name": value} if isinstance(value, str) else value


class Metric(Strict):
    """A metric: a class of keras.metrics, or a user's function.

    A user's function is called as ``fn(labels, outputs, **args)`` and returns a value per example, or as
    ``fn(**args)`` and returns a ``keras.metrics.Metric``. ``as`` names the metric in results.
    """

    name: str
    args: dict[str, Any] = {}
    shown_as: str | None = Field(None, alias="as", pattern=r"^[A-Za-z]\w{0,63}$")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        classes = {own: key for key, own in METRICS.items()}
        return checked(classes.get(name, name), METRICS)

    @property
    def key(self) -> str:
        """The name of this part of learning in results, without ``val_`` or ``test_``."""
        return self.shown_as or self.name.rpartition(":")[2]


Metrics = Annotated[list[Annotated[Metric, BeforeValidator(by_name_alone)]], Field(max_length=32)]


class Callback(Strict):
    """A ``keras.callbacks.Callback``: by Keras' name, or what a user's function or class returns for ``args``."""

    name: str
    args: dict[str, Any] = {}

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name in OWN_KEYS:
            raise ValueError(f"{name} is not needed; use {OWN_KEYS[name]}")
        return checked(name, CALLBACKS)


Callbacks = Annotated[list[Annotated[Callback, BeforeValidator(by_name_alone)]], Field(max_length=32)]


class ModelOutput(Strict):
    """An output of a model with several: its loss, the weight of that loss, and its metrics."""

    loss: str = "sparse_categorical_crossentropy"
    loss_args: dict[str, Any] = {}
    from_logits: bool = False
    label_smoothing: Smoothing = 0.0
    weight: NonNegativeFloat = 1.0
    metrics: Metrics = []

    @field_validator("loss")
    @classmethod
    def _known(cls, name: str) -> str:
        return checked(own_name(name, LOSSES), LOSSES)

    @model_validator(mode="after")
    def _fits(self) -> ModelOutput:
        for problem in loss_problems(self.loss, self.loss_args, self.from_logits, self.label_smoothing):
            raise ValueError(problem)
        return self

    def metric_names(self) -> frozenset[str]:
        """The names of its metrics, without the output's."""
        return metric_names(self.loss, self.metrics)


def loss_problems(loss: str, args: dict[str, Any], from_logits: bool, smoothing: float) -> list[str]:
    """Say what is wrong with the settings of a loss; an empty list if nothing is."""
    found = []
    if smoothing and loss not in CLASSIFICATION:
        found.append(f"label_smoothing: {loss} compares no classes; remove it, or use a crossentropy")
    for name, key in (("from_logits", "from_logits"), ("label_smoothing", "label_smoothing")):
        if name in args and not is_reference(loss):
            found.append(f"loss_args: {name} has a key of its own; use {key}")
    if from_logits and is_reference(loss):
        found.append("from_logits: a user's loss gets the outputs as they are; remove it, or pass it in loss_args")
    return found


def metric_names(loss: str, metrics: list[Metric]) -> frozenset[str]:
    """Return the names of the metrics that a loss and a list of metrics give."""
    return frozenset({"loss", *({"accuracy"} if loss in CLASSIFICATION else ()), *(metric.key for metric in metrics)})


def repeated(metrics: list[Metric], loss: str) -> str | None:
    """Return a name that stands for two metrics; ``None`` if there is none."""
    seen = {"loss", *({"accuracy"} if loss in CLASSIFICATION else ())}
    for metric in metrics:
        if metric.key in seen:
            return metric.key
        seen.add(metric.key)
    return None
