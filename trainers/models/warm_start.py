"""Starts a model from the weights of another, by the names of its variables."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
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
    wanted = {keras_compat.name_of(each): each for each in model.weights}
    held = _named_as(wanted, _weights_in(in_home(spec.source)), model.name)
    wanted = {name: each for name, each in wanted.items() if any(fnmatchcase(name, only) for only in spec.only)}
    fitting = {name: each for name, each in wanted.items() if _fits(name, each, held)}
    lacking = [name for name in wanted if name not in fitting]
    if not fitting or (lacking and spec.missing == "error"):
        named = ", ".join(lacking[:_MOST_NAMED]) + (" and more" if len(lacking) > _MOST_NAMED else "")
        problem = f"{len(lacking)} of {len(wanted)} weights are missing in {spec.source} or have another shape: {named}"
        raise UserError(problem, where=_WHERE, remedy="missing: keep takes those that fit; only: [PATTERN] names some")
    for name, variable in fitting.items():
        keras_compat.tensor_of(variable).assign(held[name])


def _named_as(wanted: Mapping[str, Any], held: dict[str, np.ndarray], model: str) -> dict[str, np.ndarray]:
    """Give weights the names of a model that differs in the numbers of its layers alone; else leave their names.

    Keras numbers layers without a name of their own through a whole process: an exported model, which was built a
    second time, has ``dense_2`` where a fresh model has ``dense``. The weights of a Sequential carry its own name until
    it is saved.
    """
    own = {numbered: name for name, numbered in renumbered(wanted).items()}
    theirs = {name: own.get(numbered) for name, numbered in renumbered(held).items()}
    named = {to: held[name] for name, to in theirs.items() if to is not None}
    if len(named) == len(wanted) == len(held):
        return named
    return held | {f"{model}/{name}": array for name, array in held.items()}


def renumbered(names: Iterable[str]) -> dict[str, str]:
    """Number layers of the same kind from 0 in their order, whatever their numbers are, without what all share.

    >>> renumbered(["dense_4/kernel", "dense_7/kernel", "head/kernel"])
    {'dense_4/kernel': 'dense_0/kernel', 'dense_7/kernel': 'dense_1/kernel', 'head/kernel': 'head_0/kernel'}
    """
    numbers: dict[tuple[str, str], set[int]] = {}
    split = {name: name.split("/")[:-1] for name in names}
    shared = len(os.path.commonprefix(list(split.values())))
    found = {name: [_numbered(layer) for layer in layers[shared:]] for name, layers in split.items()}
    for layers in found.values():
        for depth, (kind, number) in enumerate(layers):
            numbers.setdefault((_kinds(layers[:depth]), kind), set()).add(number)
    order = {key: {number: at for at, number in enumerate(sorted(of))} for key, of in numbers.items()}
    return {
        name: "/".join(
            [*(f"{kind}_{order[_kinds(layers[:depth]), kind][number]}" for depth, (kind, number) in enumerate(layers))]
            + [name.rpartition("/")[2]]
        )
        for name, layers in found.items()
    }


def _numbered(layer: str) -> tuple[str, int]:
    kind, _, number = layer.rpartition("_")
    return (kind, int(number)) if kind and number.isdigit() else (layer, 0)


def _kinds(layers: Sequence[tuple[str, int]]) -> str:
    return "/".join(f"{kind}_{number}" for kind, number in layers)


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
