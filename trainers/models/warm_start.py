"""Starts a model from the weights of another, by the names of its variables."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.configs.home_folder import in_home
from saman.configs.schemas.learning.weights import WarmStart
from saman.trainers import keras_compat
from saman.trainers.keras_compat import keras

_WHERE = "train.warm_start"
_MOST_NAMED = 5


def load_into(model: Any, spec: WarmStart) -> None:
    """Give a model the weights of a Keras file, under the strategy's scope.

    Args:
        model: The Keras model.
        spec: The file, and the names of the weights to take.

    Raises:
        UserError: The file cannot be read, or lacks a weight that must not be missing.
    """
    held = _weights_in(in_home(spec.source))
    wanted = {keras_compat.name_of(each): each for each in model.weights}
    wanted = {name: each for name, each in wanted.items() if any(fnmatchcase(name, only) for only in spec.only)}
    fitting = {name: each for name, each in wanted.items() if _fits(name, each, held)}
    lacking = [name for name in wanted if name not in fitting]
    if not fitting or (lacking and spec.missing == "error"):
        named = ", ".join(lacking[:_MOST_NAMED]) + (" and more" if len(lacking) > _MOST_NAMED else "")
        problem = f"{len(lacking)} of {len(wanted)} weights are missing in {spec.source} or have another shape: {named}"
        raise UserError(problem, where=_WHERE, remedy="missing: keep takes those that fit; only: [PATTERN] names some")
    for name, variable in fitting.items():
        keras_compat.tensor_of(variable).assign(held[name])


def _fits(name: str, variable: Any, held: Mapping[str, np.ndarray]) -> bool:
    return name in held and held[name].shape == tuple(variable.shape)


def _weights_in(path: Path) -> dict[str, np.ndarray]:
    if path.suffix != ".keras":
        remedy = "a .keras file; saman run and saman submit find published versions, studies and workflows do not"
        raise UserError(f"{path} was not found before the run started", where=_WHERE, remedy=remedy)
    if not path.is_file():
        raise UserError(f"no such file: {path}", where=_WHERE, remedy="a .keras file, or a published version")
    try:
        other = keras.models.load_model(path, compile=False)
    except Exception as error:
        problem = f"{path} cannot be loaded: {str(error).splitlines()[0]}"
        remedy = "a model of Keras' own layers, or layers registered with keras.saving.register_keras_serializable"
        raise UserError(problem, where=_WHERE, remedy=remedy) from error
    return {keras_compat.name_of(variable): keras_compat.as_array(variable) for variable in other.weights}
