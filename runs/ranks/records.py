"""Record of a process: where it ran, and how its program ended. The process's wrapper keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from saman.runs.files.whole import read_json, write_json


@dataclass(frozen=True)
class RankRecord:
    """A process of an attempt. Once its program has ended, either ``code`` or ``signal`` is set.

    ``stopped``: the wrapper received a request to stop it before it ended. Times are Unix seconds.
    """

    process: int
    first_rank: int
    ranks_here: int
    node: str
    host: str
    cores: tuple[int, ...]
    gpus: tuple[str, ...]
    wrapper_pid: int
    pid: int | None = None
    pid_started: int | None = None
    started: float | None = None
    ended: float | None = None
    code: int | None = None
    signal: int | None = None
    stopped: bool = False
    last_lines: tuple[str, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether the wrapper has seen the end of the program."""
        return self.code is not None or self.signal is not None

    @property
    def failed(self) -> bool:
        """Whether the program failed. 85 (checkpointed on request) is no failure."""
        return self.has_ended and self.code not in (0, 85)

    def write(self, path: Path) -> None:
        """Put the record at ``path``, whole."""
        write_json(path, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """Return the values of the record's file."""
        return {"schema": 1, **asdict(self)}

    def ending(self, **facts: Any) -> RankRecord:
        """Return the record with the end of the program filled in."""
        return replace(self, **facts)

    @classmethod
    def read(cls, path: Path) -> RankRecord | None:
        """Read the record at ``path``; ``None`` if it is missing or of another schema."""
        return cls.from_json(read_json(path))

    @classmethod
    def from_json(cls, value: object) -> RankRecord | None:
        """Read the values that ``to_json`` returns; ``None`` for other values."""
        if not isinstance(value, Mapping) or value.get("schema") != 1:
            return None
        known = {key: item for key, item in value.items() if key in cls.__dataclass_fields__}
        try:
            for key in ("cores", "gpus", "last_lines"):
                known[key] = tuple(known.get(key, ()))
            return cls(**known)
        except TypeError:
            return None
