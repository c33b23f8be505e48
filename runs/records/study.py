"""``study.json``: the plan of a study, by which its runs are counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from saman.runs.files.whole import write_json
from saman.runs.records.schema import integer, mapping, read_record


@dataclass(frozen=True)
class PlannedRunRecord:
    """A run of the plan. ``digest`` is that of its resolved experiment; ``settings`` are its places on the axes."""

    key: str
    digest: str
    repeat: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    ranks: int | None = None
    nodes: int | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlannedRunRecord:
        """Take the run out of plain values."""
        return cls(
            key=str(value.get("key", "")),
            digest=str(value.get("digest")),
            repeat=integer(value.get("repeat")) or 1,
            settings=mapping(value.get("settings")),
            ranks=integer(value.get("ranks")),
            nodes=integer(value.get("nodes")),
        )


@dataclass(frozen=True)
class ImpossibleSettings:
    """A combination of the axes that is not a valid experiment, and the reason."""

    settings: Mapping[str, Any]
    reason: str


@dataclass(frozen=True)
class StudyRecord:
    """Plan of a study: the resolved study, its file, its runs in their order, and impossible combinations."""

    study: Mapping[str, Any]
    runs: tuple[PlannedRunRecord, ...]
    file: str = ""
    cores_per_rank: int | None = None
    impossible: tuple[ImpossibleSettings, ...] = ()

    @property
    def repeats(self) -> Counter[str]:
        """Number of planned runs by digest."""
        return Counter(run.digest for run in self.runs)

    def missing(self, done: Iterable[str]) -> Counter[str]:
        """Count the planned runs without a completed run, by digest; ``done`` holds the digests of completed runs.

        >>> plan = StudyRecord({}, (PlannedRunRecord("a-1", "a", 1), PlannedRunRecord("a-2", "a", 2)))
        >>> plan.missing(["a", "b"])
        Counter({'a': 1})
        """
        return self.repeats - Counter(done)

    @property
    def settings(self) -> dict[str, Mapping[str, Any]]:
        """Settings by digest."""
        return {run.digest: run.settings for run in self.runs}

    def to_json(self) -> dict[str, Any]:
        """Return the values of ``study.json``."""
        plain = asdict(self)
        order = ("study", "file", "cores_per_rank", "runs", "impossible")
        return {"schema": 1, **{name: plain[name] for name in order}}

    def write(self, path: Path) -> None:
        """Put the record at ``path``, whole."""
        write_json(path, self.to_json())

    @classmethod
    def read(cls, path: Path) -> StudyRecord | None:
        """Read the record at ``path``; ``None`` if there is none. Raises ``NewerSchema``."""
        value = read_record(path)
        if value is None:
            return None
        impossible = (mapping(item) for item in value.get("impossible") or ())
        return cls(
            study=mapping(value.get("study")),
            runs=tuple(PlannedRunRecord.from_json(mapping(run)) for run in value.get("runs") or ()),
            file=str(value.get("file") or ""),
            cores_per_rank=integer(value.get("cores_per_rank")),
            impossible=tuple(ImpossibleSettings(mapping(i.get("settings")), str(i.get("reason"))) for i in impossible),
        )
