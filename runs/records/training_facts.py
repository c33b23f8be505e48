"""What determines the steps of a training; a checkpoint holds it, and continues only where it is equal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from saman.runs.records.schema import integer, mapping, others, text


@dataclass(frozen=True)
class TrainingFacts:
    """What determines the steps of a training; ``None`` where an older checkpoint does not hold a fact.

    Attributes:
        model: The model's section of the experiment.
        data: The section of the data.
        optimizer: The section of the optimiser.
        global_batch_size: Examples per optimiser step.
        steps_per_epoch: Optimiser steps per epoch.
        loss: Name of the loss.
        precision: Name of the precision.
        seed: Seed of weights and shuffling.
        more: Facts that this saman does not know.
    """

    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    global_batch_size: int | None = None
    steps_per_epoch: int | None = None
    loss: str | None = None
    precision: str | None = None
    seed: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TrainingFacts:
        """Take the facts out of the header of a checkpoint."""
        return cls(
            model=mapping(value.get("model")),
            data=mapping(value.get("data")),
            optimizer=mapping(value.get("optimizer")),
            global_batch_size=integer(value.get("global_batch_size")),
            steps_per_epoch=integer(value.get("steps_per_epoch")),
            loss=text(value.get("loss")),
            precision=text(value.get("precision")),
            seed=integer(value.get("seed")),
            more=others(value, _KNOWN),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the values for the header of a checkpoint."""
        plain = asdict(self)
        return {**plain.pop("more"), **plain}

    def differences(self, other: TrainingFacts) -> dict[str, str]:
        """Return this value, as JSON, of each fact in which ``other`` differs.

        >>> TrainingFacts(seed=1).differences(TrainingFacts(seed=2))
        {'seed': '1'}
        """
        mine, theirs = _as_read(self), _as_read(other)
        different = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
        return {key: json.dumps(mine.get(key)) for key in different}


def _as_read(facts: TrainingFacts) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(facts.to_json()))
    return plain


_KNOWN = tuple(item.name for item in fields(TrainingFacts) if item.name != "more")
