"""Optuna's CMA-ES sampler without code from the storage: Optuna keeps the sampler's state there as a pickle."""

from __future__ import annotations

import io
import pickle
from typing import Any

from optuna.samplers import CmaEsSampler

from saman.configs.errors import UserError

# What the state of cmaes.CMA consists of; NumPy 1 calls its private package numpy.core.
_ALLOWED = frozenset(
    {
        ("cmaes._cma", "CMA"),
        ("numpy", "dtype"),
        ("numpy", "ndarray"),
        *(
            (f"{package}.multiarray", name)
            for package in ("numpy.core", "numpy._core")
            for name in ("_reconstruct", "scalar")
        ),
    }
)


class _StateUnpickler(pickle.Unpickler):
    """Builds numbers, arrays and the optimiser; a storage that others can write to must not run code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a sampler's state")
        return super().find_class(module, name)


class CmaEsWithoutCode(CmaEsSampler):  # type: ignore[misc, unused-ignore]
    """CMA-ES that refuses a state with anything but numbers."""

    def _restore_optimizer(self, completed_trials: list[Any]) -> Any:
        for trial in reversed(completed_trials):
            parts = {
                key: value for key, value in trial.system_attrs.items() if key.startswith(self._attr_key_optimizer)
            }
            if parts:
                return read_state(self._concat_optimizer_attrs(parts))
        return None


def read_state(text: str) -> Any:
    """Return the optimiser of a stored state, in hexadecimal digits.

    Raises:
        UserError: It holds anything else.
    """
    try:
        return _StateUnpickler(io.BytesIO(bytes.fromhex(text))).load()
    except (pickle.UnpicklingError, ValueError, EOFError, AttributeError, TypeError, IndexError, KeyError) as error:
        problem = f"the sampler's state is refused: {error}"
        raise UserError(
            problem, where="the trials so far", remedy="another name for the study, or another sampler"
        ) from None
