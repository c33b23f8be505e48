"""Remembers in an environment which steps of its set-up are finished, with what inputs, and what a person chose."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

NAME = "saman-setup.json"


@dataclass(frozen=True)
class Stamp:
    """Step -> key of its inputs, for finished steps only; ``begun`` while one is under way.

    ``mpi`` and ``gpu`` are what the set-up was asked for: the next one keeps them unless it is asked for others.
    """

    finished: dict[str, str] = field(default_factory=dict)
    begun: str | None = None
    mpi: str | None = None
    gpu: bool = False

    def holds(self, step: str, key: str) -> bool:
        """Whether ``step`` was finished with the same inputs."""
        return self.finished.get(step) == key

    def beginning(self, step: str) -> Stamp:
        """As it is while ``step`` runs: not finished."""
        finished = {name: key for name, key in self.finished.items() if name != step}
        return replace(self, finished=finished, begun=step)

    def ending(self, step: str, key: str) -> Stamp:
        """As it is once ``step`` is finished."""
        return replace(self, finished={**self.finished, step: key}, begun=None)


def read(venv: Path) -> Stamp | None:
    """The stamp in ``venv``; None where there is none or it is not readable."""
    try:
        plain = json.loads((venv / NAME).read_text("utf-8"))
        return Stamp(dict(plain["finished"]), plain["begun"], plain.get("mpi"), bool(plain.get("gpu")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(venv: Path, stamp: Stamp) -> None:
    """Put the stamp down whole."""
    new = venv / f".{NAME}.{os.getpid()}"
    with new.open("w", encoding="utf-8") as stream:
        json.dump(asdict(stamp), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(venv / NAME)
