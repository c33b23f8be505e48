"""The schema of a study: a base experiment, axes, weak or strong scaling, repeats."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from saman.configs.errors import UserError, choices
from saman.configs.names import Name
from saman.configs.problems import Problems, Strict

# Short names for axes and for keys under ``set``; all other names are key paths of an experiment.
SHORT_NAMES = {
    "nodes": "resources.nodes",
    "strategy": "train.strategy",
    "precision": "train.precision",
    "starter": "launch.with",
    "stages": "train.pipeline.stages",
    "micro_batches": "train.micro_batches",
}
RANKS = "ranks"
STAGES = "stages"
BATCH = "batch_size"
_COUNTS = ("nodes", STAGES, "micro_batches")  # axes with counts as values


class Study(Strict):
    """A scaling study: every combination of the axes, ``repeats`` times, in a random order that is recorded."""

    name: Name
    experiment: str
    changes: dict[str, Any] = Field({}, alias="set")
    scaling: Literal["strong", "weak"]
    axes: dict[str, list[Any]] = Field(min_length=1)
    repeats: PositiveInt = 3
    order_seed: NonNegativeInt = 0
    warmup_windows: NonNegativeInt = 1
    base_ranks: PositiveInt = 1
    cpus_per_rank: PositiveInt | Literal["auto"] = "auto"
    node_hours_limit: PositiveFloat | None = None
    concurrency: PositiveInt | None = None  # runs at a time, over all job arrays
    whole_nodes: bool = True  # on a cluster: no other job shares the nodes of a run
    exports: bool = False  # whether each run exports its model
    predict: list[PositiveInt] = []

    @field_validator("axes", mode="after")
    @classmethod
    def _values(cls, axes: dict[str, list[Any]]) -> dict[str, list[Any]]:
        for name, values in axes.items():
            if not values:
                raise ValueError(f"{name} has no values")
            if len({json.dumps(value, sort_keys=True) for value in values}) < len(values):
                raise ValueError(f"duplicate value in {name}")
        return axes

    @model_validator(mode="after")
    def _possible(self) -> Study:
        found = list(_mistakes(self))
        if found:
            raise Problems(found)
        return self

    def combinations(self) -> list[dict[str, Any]]:
        """Every combination of the axes' values, under the study's own names."""
        names = list(self.axes)
        return [dict(zip(names, values, strict=True)) for values in product(*self.axes.values())]

    def overrides(self, settings: dict[str, Any]) -> list[str]:
        """The changes of the base experiment for a combination, as ``key.path=value``, without the ranks."""
        batch = "train.global_batch_size" if self.scaling == "strong" else "train.batch_size_per_rank"
        names = {**SHORT_NAMES, BATCH: batch}
        values = {"publish": None, "export": self.exports, **self.changes, **settings, "name": self.name}
        return [f"{names.get(key, key)}={json.dumps(value)}" for key, value in values.items() if key != RANKS]

    def resolved(self) -> dict[str, Any]:
        """Plain values including defaults."""
        return self.model_dump(mode="json", by_alias=True)


def _unknown_axis(name: str) -> tuple[str, str] | None:
    """The problem with a name that is neither short nor a key of an experiment, and the remedy; ``None`` if it is."""
    from saman.configs.schemas.experiment import Experiment

    short = [RANKS, BATCH, *SHORT_NAMES]
    if name in (*short, "cpus_per_rank") or name.split(".")[0] in Experiment.model_fields:
        return None
    return f"a study has no {name!r}", f"{choices(name, short)}; or a key path of an experiment, as train.epochs"


def _mistakes(study: Study) -> Iterator[UserError]:
    for where, names in (("axes", study.axes), ("set", study.changes)):
        for name in names:
            if SHORT_NAMES.get(name) in {**study.axes, **study.changes}:
                other = SHORT_NAMES[name]
                yield UserError(
                    f"{name} and {other} are the same key", where=f"{where}.{name}", remedy="keep one of them"
                )
            if (unknown := _unknown_axis(name)) is not None:
                yield UserError(unknown[0], where=f"{where}.{name}", remedy=unknown[1])
            if name == "name":
                yield UserError("runs of a study always have the study's name", where=f"{where}.name")
            if name in ("cpus_per_rank", "resources.cpus_per_rank"):
                yield UserError(
                    "cores per rank cannot vary within a study",
                    where=f"{where}.{name}",
                    remedy="set cpus_per_rank at the top level of the study",
                )
    for name in ("train.global_batch_size", "train.batch_size_per_rank"):
        if name in study.axes:
            yield UserError("the axis of batch sizes is batch_size", where=f"axes.{name}", remedy=f"{BATCH}: […]")
    for name in _COUNTS:
        for value in study.axes.get(name, []):
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                yield UserError(f"{value!r} is not a number of {name.replace('_', '-')}", where=f"axes.{name}")
