"""The optimiser of an experiment, built under the strategy's scope; every step sets its learning rate."""

from __future__ import annotations

from typing import Any

from saman.configs.schemas.training import Adam, AdamW, LambSettings, Sgd
from saman.trainers.keras_compat import KERAS_2, keras


def build(spec: Sgd | Adam | AdamW | LambSettings) -> Any:
    """Return a Keras optimiser with the experiment's settings."""
    optimizers = keras.optimizers
    # Keras 2 compiles updates with XLA by default, which its multi-device strategies refuse.
    plain: dict[str, Any] = {"jit_compile": False} if KERAS_2 else {}
    match spec:
        case Sgd():
            decay = spec.weight_decay or None
            return optimizers.SGD(
                learning_rate=0.0, momentum=spec.momentum, nesterov=spec.nesterov, weight_decay=decay, **plain
            )
        case Adam():
            moments = {"beta_1": spec.beta_1, "beta_2": spec.beta_2, "epsilon": spec.epsilon}
            return optimizers.Adam(learning_rate=0.0, **moments, **plain)
        case AdamW():
            moments = {"beta_1": spec.beta_1, "beta_2": spec.beta_2, "epsilon": spec.epsilon}
            return optimizers.AdamW(learning_rate=0.0, weight_decay=spec.weight_decay, **moments, **plain)
        case LambSettings():
            from saman.trainers.program.lamb import Lamb

            return Lamb(beta_1=spec.beta_1, beta_2=spec.beta_2, epsilon=spec.epsilon, decay=spec.weight_decay, **plain)
