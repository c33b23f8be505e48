"""Early stop: ends the training when its metric has not improved for ``patience`` validations."""

from __future__ import annotations

import math
from dataclasses import replace

from saman.configs.schemas.training import EarlyStop
from saman.runs.checkpoints import TrainingPosition


def is_better(metric: str, value: float, best: float | None, min_delta: float) -> bool:
    """Return whether ``value`` improves on ``best`` by more than ``min_delta``; a loss improves by falling."""
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    return best - value > min_delta if metric.endswith("loss") else value - best > min_delta


def judge(position: TrainingPosition, spec: EarlyStop, value: float) -> TrainingPosition:
    """Return ``position`` after a validation with metric ``value``; ``ended`` once patience is used up."""
    if is_better(spec.metric, value, position.best, spec.min_delta):
        return replace(position, best=value, best_step=position.step, without_improvement=0)
    waited = position.without_improvement + 1
    return replace(position, without_improvement=waited, ended=waited >= spec.patience)
