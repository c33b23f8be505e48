"""Compares experiments of different versions: a key that is absent stands for its default.

Each section is completed alone. A section that today's schema refuses (it lost a key since) stays as it was written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from saman.configs.schemas.builtins import MODELS, SOURCES
from saman.configs.schemas.data.section import Data
from saman.configs.schemas.experiment import Model
from saman.configs.schemas.training import Train

_SECTIONS: Mapping[str, type[BaseModel]] = {"model": Model, "data": Data, "train": Train}
# Sections with the arguments of a built-in: the key of its name, and the built-ins.
_BUILT_IN = {"model": ("build", MODELS), "data": ("source", SOURCES)}


def with_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of an experiment with today's defaults for keys that it lacks.

    Args:
        values: As ``experiment.yaml`` of any version holds them.
    """
    return {name: _dumped(name, value, exclude_defaults=False) for name, value in values.items()}


def without_defaults(values: Mapping[str, Any]) -> dict[str, Any]:
    """The plain values of an experiment without those that equal today's defaults.

    A setting that came later changes nothing in them as long as it is at its default.

    Args:
        values: As ``experiment.yaml`` of any version holds them.
    """
    return {name: _shortened(name, _dumped(name, value, exclude_defaults=True)) for name, value in values.items()}


def _dumped(name: str, value: Any, exclude_defaults: bool) -> Any:
    if name not in _SECTIONS:
        return value
    try:
        section = _SECTIONS[name].model_validate(value)
    except ValidationError:
        return value
    return section.model_dump(mode="json", by_alias=True, exclude_defaults=exclude_defaults)


def _shortened(name: str, section: Any) -> Any:
    """A section without the default arguments of the built-in that it names."""
    if name not in _BUILT_IN or not isinstance(section, Mapping) or not section.get("args"):
        return section
    key, built_in = _BUILT_IN[name]
    schema = built_in.get(str(section.get(key)))
    if schema is None:
        return section
    try:
        return {
            **section,
            "args": schema.model_validate(section["args"]).model_dump(mode="json", exclude_defaults=True),
        }
    except ValidationError:
        return section
