"""Calls the user's Keras callbacks between epochs and around validations, on every rank with the same metrics."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.learning.components import Callback
from saman.trainers.keras_compat import keras
from saman.trainers.strategies.base import Strategy, agree
from saman.trainers.user_code.context import Context
from saman.trainers.user_code.functions import call

# saman takes several steps in a call of a graph, and returns to Python between calls only.
_NOT_CALLED = (
    *("on_batch_begin", "on_batch_end", "on_train_batch_begin", "on_train_batch_end", "on_test_batch_begin"),
    *("on_test_batch_end", "on_predict_begin", "on_predict_end", "on_predict_batch_begin", "on_predict_batch_end"),
)


class Callbacks:
    """The callbacks of a run.

    A callback that has ``get_state()`` and ``set_state(value)`` is continued after a resume; the value is plain JSON.
    """

    def __init__(self, callbacks: Sequence[Any], strategy: Strategy, asked: bool) -> None:
        """Take the callbacks here; ``asked`` says whether the experiment names any, on this rank or another."""
        self._callbacks, self._strategy, self._asked = list(callbacks), strategy, asked

    def begin(self, state: Mapping[str, Any]) -> None:
        """Begin the training, or go on with the state that ``state()`` returned."""
        for name, callback in self._named():
            if name in state and hasattr(callback, "set_state"):
                callback.set_state(state[name])
            callback.on_train_begin({})

    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch, counted from 0."""
        for callback in self._callbacks:
            callback.on_epoch_begin(epoch, {})

    def end_epoch(self, epoch: int, metrics: Mapping[str, float]) -> bool:
        """End an epoch; return whether a callback of the chief ends the training: ``self.model.stop_training``."""
        for callback in self._callbacks:
            callback.on_epoch_end(epoch, dict(metrics))
        stops = any(getattr(callback.model, "stop_training", False) for callback in self._callbacks)
        return self._asked and bool(agree(self._strategy, float(stops)))

    def begin_test(self) -> None:
        """Begin a validation or a test."""
        for callback in self._callbacks:
            callback.on_test_begin({})

    def end_test(self, metrics: Mapping[str, float]) -> None:
        """End a validation or a test."""
        for callback in self._callbacks:
            callback.on_test_end(dict(metrics))

    def end(self, metrics: Mapping[str, float]) -> None:
        """End the training."""
        for callback in self._callbacks:
            callback.on_train_end(dict(metrics))

    def state(self) -> dict[str, Any]:
        """Return the state of the callbacks that have any, by name."""
        kept = {name: callback.get_state() for name, callback in self._named() if hasattr(callback, "get_state")}
        plain: dict[str, Any] = json.loads(json.dumps(kept))
        return plain

    def _named(self) -> list[tuple[str, Any]]:
        return [(f"{number}/{type(callback).__name__}", callback) for number, callback in enumerate(self._callbacks)]


def build(specs: Sequence[Callback], model: Any, context: Context, epochs: int, steps: int) -> list[Any]:
    """Return the callbacks of an experiment, with their model.

    Args:
        specs: The callbacks.
        model: The Keras model on this process.
        context: What users' functions may ask for.
        epochs: Epochs of the run.
        steps: Steps per epoch.

    Raises:
        UserError: A callback does not take its arguments, or wants to be called at every step.
    """
    built = []
    for number, spec in enumerate(specs):
        where = f"train.callbacks[{number}]"
        callback = _users(spec, where, context) if is_reference(spec.name) else _of_keras(spec, where, context)
        if callback is None:
            continue
        if is_reference(spec.name):
            _refuse_steps(callback, spec.name, where)
        callback.set_params({"epochs": epochs, "steps": steps, "verbose": 0})
        callback.set_model(model)
        built.append(callback)
    return built


def _refuse_steps(callback: Any, name: str, where: str) -> None:
    base = keras.callbacks.Callback
    for hook in _NOT_CALLED:
        if getattr(type(callback), hook, None) is not getattr(base, hook, None):
            remedy = "on_epoch_begin, on_epoch_end, on_test_begin, on_test_end, on_train_begin, on_train_end"
            raise UserError(f"{name} has {hook}, which is never called", where=where, remedy=remedy)


def _users(spec: Callback, where: str, context: Context) -> Any:
    made = call(spec.name, where, spec.args, ctx=context)
    if not isinstance(made, keras.callbacks.Callback):
        problem = f"{spec.name} returned {type(made).__name__}"
        raise UserError(problem, where=where, remedy="return a keras.callbacks.Callback")
    return made


def _of_keras(spec: Callback, where: str, context: Context) -> Any:
    """Return a callback of Keras on the chief; ``None`` on other ranks: these callbacks only write files."""
    if context.rank:
        return None
    args = dict(spec.args)
    if "filename" in args and not Path(args["filename"]).is_absolute():
        args["filename"] = str(context.artefacts / args["filename"])
    try:
        return getattr(keras.callbacks, spec.name)(**args)
    except TypeError as error:
        raise UserError(f"{spec.name}: {error}", where=f"{where}.args") from error
