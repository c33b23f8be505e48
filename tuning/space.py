"""The search space in Optuna's terms, and a trial's values as changes of the experiment or arguments of a program."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from saman.configs.schemas.tuning import Choice, Range

Space = Mapping[str, Range | Choice]


def distributions(space: Space) -> dict[str, Any]:
    """Optuna's distribution of each key. Choices are JSON texts there: Optuna stores no lists or mappings."""
    return {key: _distribution(part) for key, part in space.items()}


def _distribution(part: Range | Choice) -> Any:
    from optuna import distributions as kinds

    if isinstance(part, Choice):
        return kinds.CategoricalDistribution([_text(value) for value in part.choices])
    if part.whole:
        return kinds.IntDistribution(int(part.low), int(part.high), log=part.log, step=int(part.step or 1))
    return kinds.FloatDistribution(float(part.low), float(part.high), log=part.log, step=part.step)


def settings_of(space: Space, params: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's values by key, from Optuna's parameters.

    >>> settings_of({"model.args.hidden": Choice(choices=[[64], [128, 64]])}, {"model.args.hidden": "[128, 64]"})
    {'model.args.hidden': [128, 64]}
    """
    return {key: json.loads(value) if isinstance(space.get(key), Choice) else value for key, value in params.items()}


def params_of(space: Space, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Optuna's parameters for values by key: the inverse of ``settings_of``."""
    return {key: _text(value) if isinstance(space.get(key), Choice) else value for key, value in settings.items()}


def grid_values(space: Space) -> dict[str, list[Any]]:
    """The values of a grid by key, as Optuna's parameters."""
    points = {key: part.grid() or [] for key, part in space.items()}
    return {
        key: [_text(value) for value in values] if isinstance(space[key], Choice) else values
        for key, values in points.items()
    }


def overrides(settings: Mapping[str, Any]) -> list[str]:
    """A point of the space as changes of an experiment, ``key.path=value``.

    >>> overrides({"train.epochs": 3, "model.args.hidden": [64]})
    ['train.epochs=3', 'model.args.hidden=[64]']
    """
    return [f"{key}={json.dumps(value)}" for key, value in settings.items()]


def filled(command: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """A program's command with ``{KEY}`` replaced by a point of the space; other braces stay as they are.

    >>> filled(["python", "train.py", "--lr={lr}", "{x}"], {"lr": 0.1})
    ['python', 'train.py', '--lr=0.1', '{x}']
    """
    found = []
    for word in command:
        for key, value in settings.items():
            word = word.replace(f"{{{key}}}", value if isinstance(value, str) else json.dumps(value))
        found.append(word)
    return found


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
