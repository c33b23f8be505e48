"""``summary.json``: the result of a run's newest attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from saman.runs.files.whole import write_json
from saman.runs.records.schema import integer, mapping, number, others, read_record, text


@dataclass(frozen=True)
class Summary:
    """Result of a run. ``failure`` holds the first failing ranks; ``more`` holds further measures by name.

    ``samples_per_second`` is sustained throughput; ``end_to_end_samples_per_second`` is that over the wall time of all
    attempts.
    """

    state: str
    message: str | None = None
    seconds: float | None = None
    ranks: tuple[int, ...] = ()
    attempts: int | None = None
    samples_per_second: float | None = None
    end_to_end_samples_per_second: float | None = None
    step: int | None = None
    epoch: int | None = None
    exit_code: int | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    failure: Mapping[str, Any] | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Summary:
        """Take the summary out of the values of ``summary.json``."""
        return cls(
            state=str(value.get("state", "")),
            message=text(value.get("message")),
            seconds=number(value.get("seconds")),
            ranks=tuple(value.get("ranks") or ()),
            attempts=integer(value.get("attempts")),
            samples_per_second=number(value.get("samples_per_second")),
            end_to_end_samples_per_second=number(value.get("end_to_end_samples_per_second")),
            step=integer(value.get("step")),
            epoch=integer(value.get("epoch")),
            exit_code=integer(value.get("exit_code")),
            metrics=mapping(value.get("metrics")),
            failure=value.get("failure"),
            more=others(value, _KNOWN),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the values of ``summary.json``."""
        plain = {name: getattr(self, name) for name in _KNOWN}
        plain |= {"ranks": list(self.ranks) or None, "metrics": dict(self.metrics)}
        kept = {name: value for name, value in plain.items() if value is not None or name not in _OPTIONAL}
        return {"schema": 1, **kept, **self.more}

    def write(self, path: Path) -> None:
        """Put the summary at ``path``, whole."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> Summary | None:
        """Read the summary at ``path``; ``None`` if there is none. Raises ``NewerSchema``."""
        value = read_record(path)
        return None if value is None else cls.from_json(value)


_OPTIONAL = ("message", "ranks", "exit_code")
_KNOWN = tuple(item.name for item in fields(Summary) if item.name != "more")
