"""The Python face: the functions that notebooks and scripts call as ``saman.run`` and so on."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_MODULES = {
    "experiments": ("load_experiment", "run", "submit"),
    "models": ("ModelVersions", "models"),
    "programs": ("report_epoch",),
    "reports": ("Report", "report"),
    "runs": ("Run", "RunFailed", "open_run"),
    "studies": ("StudyRuns", "study"),
    "tunings": ("autotune", "tune"),
}
_HOMES = {name: f"saman.api.{module}" for module, names in _MODULES.items() for name in names}
_HOMES |= dict.fromkeys(("EnvironmentLack", "UserError"), "saman.configs.errors")


def __getattr__(name: str) -> Any:
    """Load a public name of ``saman`` when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'saman' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*_HOMES, "__version__"])
