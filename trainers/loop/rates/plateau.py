"""The learning rate by a metric: Keras' ReduceLROnPlateau, with its state in the position of the training."""

from __future__ import annotations

from dataclasses import replace

from saman.configs.schemas.learning.plateau import ReduceOnPlateau
from saman.runs.checkpoints import TrainingPosition
from saman.trainers.loop.early_stop import falls, is_better


def reduced(rate: float, position: TrainingPosition, spec: ReduceOnPlateau | None) -> float:
    """Return the rate of a step: that of its schedule, times the factors so far, but not below ``min_rate``.

    Args:
        rate: The rate by step.
        position: The position of the training.
        spec: When to reduce; ``None`` never.
    """
    return rate if spec is None else max(rate * position.rate_scale, min(rate, spec.min_rate))


def judge(position: TrainingPosition, spec: ReduceOnPlateau, value: float, rate: float) -> TrainingPosition:
    """Return the position after an epoch, with a lower ``rate_scale`` once patience is used up.

    The order of the rules is that of Keras' callback.

    Args:
        position: The position before the judgement.
        spec: When to reduce.
        value: The metric of the epoch, the same on all ranks.
        rate: The rate by step at the end of the epoch, without the factors.
    """
    cooldown = max(0, position.plateau_cooldown - 1)
    wait = 0 if position.plateau_cooldown > 0 else position.plateau_wait
    if is_better(falls(spec.goal, spec.metric), value, position.plateau_best, spec.min_delta):
        return replace(position, plateau_best=value, plateau_wait=0, plateau_cooldown=cooldown)
    if cooldown > 0:
        return replace(position, plateau_wait=wait, plateau_cooldown=cooldown)
    wait += 1
    now = replace(position, plateau_wait=wait, plateau_cooldown=0)
    if wait < spec.patience or reduced(rate, position, spec) <= spec.min_rate:
        return now
    scale = position.rate_scale * spec.factor
    return replace(now, rate_scale=scale, plateau_wait=0, plateau_cooldown=spec.cooldown)
