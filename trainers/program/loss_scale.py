"""Dynamic loss scaling for half precision, decided on combined gradients, so that all ranks decide alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from saman.trainers.keras_compat import tf

START, GROW_AFTER, LARGEST = 2.0**15, 2000, 2.0**24


class LossScale:
    """Doubles after ``GROW_AFTER`` finite steps, halves after an overflow (Micikevicius et al. 2018, 3.2)."""

    def __init__(self, precision: str) -> None:
        self.dynamic = precision == "mixed_float16"
        # Plain variables of this process: every process makes the same decision from the same combined gradients.
        self.value = tf.Variable(START, trainable=False, dtype=tf.float32, name="loss_scale")
        self._finite_steps = tf.Variable(0, trainable=False, dtype=tf.int64, name="finite_steps")

    def adjust(self, finite: Any) -> None:
        """Adjust the scale, in a graph after the update; ``finite`` says whether all combined gradients were finite."""
        grow = tf.logical_and(finite, self._finite_steps + 1 >= GROW_AFTER)
        factor = tf.where(grow, 2.0, tf.where(finite, 1.0, 0.5))
        good = tf.where(tf.logical_or(grow, tf.logical_not(finite)), tf.constant(0, tf.int64), self._finite_steps + 1)
        self.value.assign(tf.clip_by_value(self.value * factor, 1.0, LARGEST))
        self._finite_steps.assign(good)

    def state(self) -> dict[str, np.ndarray]:
        """Return what a checkpoint keeps; empty unless the precision needs a scale."""
        return {name: variable.numpy() for name, variable in self.variables().items()}

    def variables(self) -> dict[str, Any]:
        """Return the variables of ``state()``."""
        if not self.dynamic:
            return {}
        return {"loss_scale/value": self.value, "loss_scale/finite_steps": self._finite_steps}

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from ``state``; the scale keeps its initial value if the state has none."""
        if self.dynamic and "loss_scale/value" in state:
            self.value.assign(state["loss_scale/value"])
            self._finite_steps.assign(state["loss_scale/finite_steps"])
