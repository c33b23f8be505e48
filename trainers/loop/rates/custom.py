"""Schedules of the learning rate that Keras or the user computes, as factors of the rate."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.learning.keras_names import SCHEDULES
from saman.configs.schemas.training import OtherSchedule, Schedule
from saman.trainers.keras_compat import keras
from saman.trainers.user_code.context import Context
from saman.trainers.user_code.functions import call

_WHERE = "train.learning_rate.schedule"


def factor_of(
    spec: Schedule, steps: int, steps_per_epoch: int, context: Context | None
) -> Callable[[int], float] | None:
    """Return the factor of the rate by the step after the warm-up; ``None`` for saman's own schedules.

    Args:
        spec: The schedule.
        steps: Steps of the whole run.
        steps_per_epoch: Steps per epoch.
        context: What a user's function may ask for.

    Raises:
        UserError: The schedule does not take its arguments.
    """
    if not isinstance(spec, OtherSchedule):
        return None
    made = None if is_reference(spec.name) else _of_keras(spec)

    @lru_cache(maxsize=1024)
    def factor(step: int) -> float:
        if made is not None:
            value = made(step)
        else:
            known: dict[str, Any] = {"step": step, "epoch": step / steps_per_epoch, "ctx": context}
            value = call(spec.name, _WHERE, spec.args, **known, steps=steps, steps_per_epoch=steps_per_epoch)
        number = float(value)
        if not math.isfinite(number) or number < 0:
            remedy = "return a factor of the learning rate, a finite number from 0 on"
            raise UserError(f"{spec.name} returned {number} for step {step}", where=_WHERE, remedy=remedy)
        return number

    return factor


def _of_keras(spec: OtherSchedule) -> Any:
    kind = getattr(keras.optimizers.schedules, SCHEDULES[spec.name])
    values = {} if spec.name == "piecewise_constant_decay" else {"initial_learning_rate": 1.0}
    try:
        return kind(**{**values, **spec.args})
    except (TypeError, ValueError) as error:
        raise UserError(f"{spec.name}: {error}", where=f"{_WHERE}.args") from error
