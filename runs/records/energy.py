"""``energy.json``: the energy of a run, recorded where a meter exists."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from saman.runs.files.whole import write_json
from saman.runs.records.schema import number, read_record


@dataclass(frozen=True)
class EnergyRecord:
    """Energy of the whole machine during a run, and the meters that counted it."""

    joules: float
    meters: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Put the record at ``path``, whole."""
        write_json(path, {"schema": 1, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> EnergyRecord | None:
        """Read the record at ``path``; ``None`` if there is none. Raises ``NewerSchema``."""
        value = read_record(path) or {}
        joules = number(value.get("joules"))
        return None if joules is None else cls(joules, tuple(map(str, value.get("meters") or ())))
