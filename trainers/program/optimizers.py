"""The optimiser of an experiment, built under the strategy's scope; every step sets its learning rate."""

from __future__ import annotations

from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.learning.keras_names import OPTIMIZERS
from saman.configs.schemas.training import Adam, AdamW, LambSettings, OtherOptimizer, Sgd
from saman.trainers.keras_compat import KERAS_2, keras
from saman.trainers.user_code.context import Context
from saman.trainers.user_code.functions import call


def build(spec: Sgd | Adam | AdamW | LambSettings | OtherOptimizer, context: Context | None = None) -> Any:
    """Return a Keras optimiser with the experiment's settings.

    Args:
        spec: The settings.
        context: What a user's function may ask for.

    Raises:
        UserError: The optimiser does not take its arguments, or is none.
    """
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
        case OtherOptimizer():
            return _other(spec, plain, context)


def _other(spec: OtherOptimizer, plain: dict[str, Any], context: Context | None) -> Any:
    where = "train.optimizer"
    if is_reference(spec.name):
        built = call(spec.name, where, spec.args, ctx=context)
        if not isinstance(built, keras.optimizers.Optimizer):
            problem = f"{spec.name} returned {type(built).__name__}"
            raise UserError(problem, where=where, remedy="return a keras.optimizers.Optimizer")
    else:
        kind = getattr(keras.optimizers, OPTIMIZERS[spec.name], None)
        if KERAS_2 and spec.name == "nadam":  # it keeps a number of its state in Python
            remedy = "adam, or TensorFlow 2.16 or newer"
            raise UserError("nadam of Keras 2 cannot be resumed", where=where, remedy=remedy)
        if kind is None:
            raise UserError(f"this Keras has no {OPTIMIZERS[spec.name]}", where=where, remedy="Keras 3")
        try:
            built = kind(learning_rate=0.0, **spec.args, **plain)
        except (TypeError, ValueError) as error:
            raise UserError(f"{spec.name}: {error}", where=f"{where}.args") from error
    if isinstance(getattr(built, "_learning_rate", None), keras.optimizers.schedules.LearningRateSchedule):
        problem = f"{spec.name} has a schedule of its own"
        raise UserError(problem, where=where, remedy="a number; train.learning_rate.schedule sets the rate")
    return built
