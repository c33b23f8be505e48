"""The learning rate as a function of the step alone: scaling with the global batch size, warm-up, then a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from saman.configs.schemas.training import Constant, Cosine, Exponential, LearningRate, OtherSchedule, Piecewise


@dataclass(frozen=True)
class Rates:
    """Learning rates of a run.

    Attributes:
        spec: ``train.learning_rate`` of the experiment.
        global_batch_size: Examples per step, all ranks together.
        steps_per_epoch: Steps per epoch.
        steps: Steps of the whole run.
        factor: The factor of the rate by step, for a schedule of Keras or of the user; else ``None``.
    """

    spec: LearningRate
    global_batch_size: int
    steps_per_epoch: int
    steps: int
    factor: Callable[[int], float] | None = None

    @property
    def peak(self) -> float:
        """The rate after warm-up: ``base`` scaled with the global batch size.

        Linear scaling is Goyal et al. (2017), section 2.1; the square root keeps the variance of the update
        (Krizhevsky 2014, section 5).
        """
        ratio = self.global_batch_size / (self.spec.base_batch_size or self.global_batch_size)
        return self.spec.base * {"linear": ratio, "sqrt": math.sqrt(ratio), "none": 1.0}[self.spec.scale]

    @property
    def warmup_steps(self) -> int:
        """Number of steps over which the rate grows linearly to its peak."""
        return round(self.spec.warmup_epochs * self.steps_per_epoch)

    def __call__(self, step: int) -> float:
        """Return the rate of ``step``, counted from 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        return self.peak * self._factor(step)

    def _factor(self, step: int) -> float:
        if self.factor is not None:
            return self.factor(step)
        schedule, epochs = self.spec.schedule, step / self.steps_per_epoch
        match schedule:
            case Constant():
                return 1.0
            case Cosine():  # Loshchilov and Hutter (2017), equation 5, without restarts
                done = (step - self.warmup_steps) / max(1, self.steps - 1 - self.warmup_steps)
                cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
                return schedule.final_fraction + (1 - schedule.final_fraction) * cosine
            case Piecewise():
                return schedule.factor ** sum(epochs >= at for at in schedule.at_epochs)
            case Exponential():
                return schedule.factor**epochs
            case OtherSchedule():
                raise ValueError(f"the schedule {schedule.name} was not built")
