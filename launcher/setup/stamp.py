"""The record in an environment of its finished set-up steps, their inputs, and the user's choices."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

NAME = "saman-setup.json"


@dataclass(frozen=True)
class Stamp:
    """``finished`` maps each finished step to the key of its inputs; ``begun`` is the step in progress.

    ``mpi`` and ``gpu`` are the user's choices; the next set-up keeps them by default.
    """

    finished: dict[str, str] = field(default_factory=dict)
    begun: str | None = None
    mpi: str | None = None
    gpu: bool = False

    def holds(self, step: str, key: str) -> bool:
        """Whether ``step`` was finished with the same inputs."""
        return self.finished.get(step) == key

    def beginning(self, step: str) -> Stamp:
        """The record while ``step`` runs."""
        finished = {name: key for name, key in self.finished.items() if name != step}
        return replace(self, finished=finished, begun=step)

    def ending(self, step: str, key: str) -> Stamp:
        """The record once ``step`` is finished."""
        return replace(self, finished={**self.finished, step: key}, begun=None)


def read(venv: Path) -> Stamp | None:
    """The stamp in ``venv``; None if it is missing or unreadable."""
    try:
        plain = json.loads((venv / NAME).read_text("utf-8"))
        return Stamp(dict(plain["finished"]), plain["begun"], plain.get("mpi"), bool(plain.get("gpu")))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(venv: Path, stamp: Stamp) -> None:
    """Write the stamp atomically."""
    new = venv / f".{NAME}.{os.getpid()}"
    with new.open("w", encoding="utf-8") as stream:
        json.dump(asdict(stamp), stream, indent=1)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(venv / NAME)
