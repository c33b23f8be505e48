"""Where the runs of a study happen: the interface that this machine and a cluster share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from saman.jobs.status import RunStatus
from saman.runs.folder import RunFolder
from saman.tuning.plan import RunSpec


@dataclass(frozen=True)
class Seen:
    """What a look finds of a run.

    Attributes:
        status: Its status.
        problem: Why it could not begin.
        idle: Whether it was made but never started.
        busy: Whether a process of this study is still at work on it, whatever its status.
    """

    status: RunStatus
    problem: str | None = None
    idle: bool = False
    busy: bool = False


class Place(Protocol):
    """Starts the runs of a study, and looks after them."""

    def start(self, specs: Sequence[RunSpec]) -> list[RunFolder]:
        """Make and start runs, each with its key as ``trial`` in its ``created`` event; those for which there is room.

        Raises:
            UserError: A run does not fit the place.
        """

    def restart(self, run: RunFolder) -> None:
        """Start a run again in its own folder, from its newest checkpoint."""

    def look(self, runs: Sequence[RunFolder]) -> list[Seen]:
        """Look at runs, and record ends that only the place knows."""

    def close(self) -> None:
        """Let go of the runs: those that cannot outlive this process end at a checkpoint."""
