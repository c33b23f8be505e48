"""``tuning.json`` of a run: the tuning study whose best trial the run trains again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from saman.runs.files.whole import write_json
from saman.runs.records.schema import integer, mapping, number, read_record, text


@dataclass(frozen=True)
class SeedValue:
    """A run of the best trial with another seed, and its objective; ``None`` if the run did not complete."""

    seed: int
    run: str
    value: float | None


@dataclass(frozen=True)
class TuningEvidence:
    """The evidence behind a published trial.

    Attributes:
        study: Name of the tuning study.
        trial: Number of the best trial.
        settings: Its values by key.
        objective: Metric and goal.
        value: The trial's own value; selected as the best of many, so it flatters.
        seeds: The runs with other seeds, whose mean does not.
        mean: Mean of their values.
        low: Lower end of the 95 % interval of the mean (Student's t); ``None`` below two seeds.
        high: Its upper end.
        trials: Number of trials by outcome.
        searched: Sampler, pruner, space and seed of the study.
        node_hours: Node-hours of all its runs.
    """

    study: str
    trial: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    objective: Mapping[str, Any] = field(default_factory=dict)
    value: float | None = None
    seeds: tuple[SeedValue, ...] = ()
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    trials: Mapping[str, int] = field(default_factory=dict)
    searched: Mapping[str, Any] = field(default_factory=dict)
    node_hours: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the values of ``tuning.json``."""
        return {"schema": 1, **asdict(self)}

    def write(self, path: Path) -> None:
        """Put the record at ``path``, whole."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> TuningEvidence | None:
        """Read the record at ``path``; ``None`` if there is none. Raises ``NewerSchema``."""
        value = read_record(path)
        return None if value is None else cls.from_json(value)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TuningEvidence:
        """Take the evidence out of plain values."""
        seeds = (mapping(item) for item in value.get("seeds") or ())
        return cls(
            study=str(value.get("study", "")),
            trial=integer(value.get("trial")) or 0,
            settings=mapping(value.get("settings")),
            objective=mapping(value.get("objective")),
            value=number(value.get("value")),
            seeds=tuple(
                SeedValue(integer(each.get("seed")) or 0, text(each.get("run")) or "", number(each.get("value")))
                for each in seeds
            ),
            mean=number(value.get("mean")),
            low=number(value.get("low")),
            high=number(value.get("high")),
            trials=mapping(value.get("trials")),
            searched=mapping(value.get("searched")),
            node_hours=number(value.get("node_hours")),
        )
