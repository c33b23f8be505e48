"""Where a person watches a run while it is supervised."""

from __future__ import annotations

from typing import Protocol

from saman.launcher.supervision.progress import TrainingProgress


class View(Protocol):
    """Shows a supervised run. Called from the supervising thread; must not block."""

    def progress(self, progress: TrainingProgress) -> None:
        """Show the progress of the run; called about once a second."""

    def line(self, rank: int, text: str) -> None:
        """Show a line that a rank printed."""

    def say(self, text: str) -> None:
        """Show a message now."""


class SilentView:
    """A view that discards everything."""

    def progress(self, progress: TrainingProgress) -> None:
        """Discard the progress."""

    def line(self, rank: int, text: str) -> None:
        """Discard the line."""

    def say(self, text: str) -> None:
        """Discard the message."""
