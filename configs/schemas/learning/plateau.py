"""The schema of ``train.learning_rate.reduce_on_plateau``: a lower rate where a metric stops to improve."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from saman.configs.problems import Strict


class ReduceOnPlateau(Strict):
    """Multiply the rate by ``factor`` after ``patience`` epochs in which ``metric`` did not improve by ``min_delta``.

    The meaning and the defaults are those of Keras' callback ReduceLROnPlateau; ``min_rate`` is its ``min_lr``. A
    schedule goes on beside it: the rate is the schedule's, times all factors so far.
    """

    metric: str = "val_loss"
    goal: Literal["auto", "minimize", "maximize"] = "auto"
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: PositiveInt = 10
    min_delta: NonNegativeFloat = 1e-4
    cooldown: NonNegativeInt = 0  # epochs after a reduction in which nothing is judged
    min_rate: NonNegativeFloat = 0.0
