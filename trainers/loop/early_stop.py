"""Early stop: ends the training when its metric has not improved for ``patience`` validations."""

from __future__ import annotations

import math
from dataclasses import replace

from saman.configs.schemas.learning.keras_names import improves_by_falling
from saman.configs.schemas.training import EarlyStop
from saman.runs.checkpoints import TrainingPosition


def falls(goal: str, metric: str) -> bool:
    """Return whether early stopping waits for a metric to fall, by ``goal``: auto, minimize or maximize."""
    return goal == "minimize" or (goal == "auto" and improves_by_falling(metric))


def is_better(falls: bool, value: float, best: float | None, min_delta: float) -> bool:
    """Return whether a metric has improved.

    Args:
        falls: Whether it improves by falling.
        value: The new value; a value that is not finite is no improvement.
        best: The best value so far; ``None`` if there is none.
        min_delta: The improvement that ``value`` must exceed.
    """
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return best - value > min_delta if falls else value - best > min_delta


def judge(position: TrainingPosition, spec: EarlyStop, value: float) -> TrainingPosition:
    """Return the position after a validation; ``ended`` once patience is used up.

    Args:
        position: The position before the validation.
        spec: The metric, its smallest improvement, and the patience in validations.
        value: The metric's value in this validation.
    """
    if is_better(falls(spec.goal, spec.metric), value, position.best, spec.min_delta):
        return replace(position, best=value, best_step=position.step, without_improvement=0)
    waited = position.without_improvement + 1
    return replace(position, without_improvement=waited, ended=waited >= spec.patience)
