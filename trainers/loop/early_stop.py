"""When to end early: the metric has not improved for ``patience`` validations."""

from __future__ import annotations

import math
from dataclasses import replace

from saman.configs.schemas.training import EarlyStop
from saman.runs.checkpoints import TrainingPosition


def is_better(metric: str, value: float, best: float | None, min_delta: float) -> bool:
    """Whether ``value`` improves on ``best`` by more than ``min_delta``; losses fall, other metrics rise."""
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return best - value > min_delta if metric.endswith("loss") else value - best > min_delta


def judged(position: TrainingPosition, spec: EarlyStop, value: float) -> TrainingPosition:
    """``position`` after a validation that gave ``value``; ``ended`` where patience is used up."""
    if is_better(spec.metric, value, position.best, spec.min_delta):
        return replace(position, best=value, best_step=position.step, without_improvement=0)
    waited = position.without_improvement + 1
    return replace(position, without_improvement=waited, ended=waited >= spec.patience)
