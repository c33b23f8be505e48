"""LAMB (You et al., 2020, algorithm 2) for Keras 2 and Keras 3.

Keras 2 has no LAMB. Keras 3's LAMB leaves the weight decay out of the trust ratio, where the paper has it inside.
"""

from __future__ import annotations

from typing import Any

from saman.trainers.keras_compat import KERAS_2, keras, tf


class Lamb(keras.optimizers.Optimizer):
    """m and v as in Adam; r = m̂/(√v̂ + ε); x ← x − η · ‖x‖/‖r + λx‖ · (r + λx), the ratio 1 where a norm is 0."""

    def __init__(self, beta_1: float, beta_2: float, epsilon: float, decay: float, **options: Any) -> None:
        super().__init__(**({} if KERAS_2 else {"learning_rate": 0.0}), name="lamb", **options)
        if KERAS_2:
            self._learning_rate = self._build_learning_rate(0.0)
        self.beta_1, self.beta_2, self.epsilon, self.decay = beta_1, beta_2, epsilon, decay
        self._momentums: list[Any] = []
        self._velocities: list[Any] = []

    def build(self, var_list: list[Any]) -> None:
        """Make both moments of every variable."""
        super().build(var_list)
        if self._momentums:
            return
        self._built = True
        for variable in var_list:
            self._momentums.append(self.add_variable_from_reference(variable, "momentum"))
            self._velocities.append(self.add_variable_from_reference(variable, "velocity"))

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any = None) -> None:
        """Update a variable and its two moments.

        Args:
            gradient: The gradient, in the variable's shape.
            variable: The variable.
            learning_rate: The learning rate, from Keras 3; ``None`` from Keras 2.
        """
        rate = tf.cast(self._learning_rate if learning_rate is None else learning_rate, variable.dtype)
        index = self._index_dict[self._var_key(variable)] if KERAS_2 else self._get_variable_index(variable)
        m, v = self._momentums[index], self._velocities[index]
        gradient, weight = tf.cast(gradient, variable.dtype), tf.convert_to_tensor(variable)
        step = tf.cast(tf.convert_to_tensor(self.iterations) + 1, variable.dtype)
        beta_1, beta_2 = tf.cast(self.beta_1, variable.dtype), tf.cast(self.beta_2, variable.dtype)
        new_m = beta_1 * tf.convert_to_tensor(m) + (1 - beta_1) * gradient
        new_v = beta_2 * tf.convert_to_tensor(v) + (1 - beta_2) * tf.square(gradient)
        m.assign(new_m)
        v.assign(new_v)
        update = (new_m / (1 - beta_1**step)) / (tf.sqrt(new_v / (1 - beta_2**step)) + self.epsilon)
        update += self.decay * weight
        weight_norm, update_norm = tf.norm(weight), tf.norm(update)
        ratio = tf.where((weight_norm > 0) & (update_norm > 0), tf.math.divide_no_nan(weight_norm, update_norm), 1.0)
        variable.assign_sub(rate * ratio * update)

    def get_config(self) -> dict[str, Any]:
        """Return the settings from which Keras makes this optimiser again."""
        moments = {"beta_1": self.beta_1, "beta_2": self.beta_2, "epsilon": self.epsilon, "decay": self.decay}
        return {**super().get_config(), **moments}
