"""The record that the wrapper of each process keeps: the placement it found, and how its program ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from saman.configs.files import read_json, write_json


@dataclass(frozen=True)
class RankRecord:
    """One process of an attempt as it was found. Exactly one of ``code`` and ``signal`` is set once it ended.

    ``stopped`` says that the wrapper was told to stop it before it ended by itself. Times are Unix seconds.
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
        """Whether its program has ended and the wrapper saw it."""
        return self.code is not None or self.signal is not None

    @property
    def failed(self) -> bool:
        """Whether it ended, and not well; 85 (checkpointed on request) is well."""
        return self.has_ended and self.code not in (0, 85)

    def write(self, path: Path) -> None:
        """Put the record at ``path``, whole."""
        write_json(path, {"schema": 1, **asdict(self)})

    def ending(self, **facts: Any) -> RankRecord:
        """The record of the same process with its end filled in."""
        return replace(self, **facts)

    @classmethod
    def read(cls, path: Path) -> RankRecord | None:
        """The record at ``path``; ``None`` where there is none or it is of another schema."""
        value = read_json(path)
        if not isinstance(value, Mapping) or value.get("schema") != 1:
            return None
        known = {key: item for key, item in value.items() if key in cls.__dataclass_fields__}
        for key in ("cores", "gpus", "last_lines"):
            known[key] = tuple(known.get(key, ()))
        try:
            return cls(**known)
        except TypeError:
            return None
