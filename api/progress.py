"""Shows the progress of a run in a notebook or script: a line for each epoch, on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from saman.configs.terminal_text import clean_text

if TYPE_CHECKING:
    from saman.launcher.supervision.progress import TrainingProgress


class PrintedProgress:
    """A ``launcher`` view that prints a line for each epoch and every notice."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._epoch = 0

    def progress(self, progress: TrainingProgress) -> None:
        """Print the metrics of an epoch that ended since the last call."""
        if progress.metrics and progress.epoch != self._epoch:
            self._epoch = progress.epoch
            metrics = "  ".join(f"{name} {value:.4g}" for name, value in progress.metrics.items())
            self.say(f"epoch {progress.epoch}  {metrics}")

    def line(self, rank: int, text: str) -> None:
        """Leave a rank's own lines to ``Run.logs``."""

    def say(self, text: str) -> None:
        """Print a notice."""
        print(clean_text(f"{self.title}: {text}"), file=sys.stderr)


def progress_view(title: str, quiet: bool) -> PrintedProgress | None:
    """The progress that a notebook or script shows; ``None`` where nothing is to be printed."""
    return None if quiet else PrintedProgress(title)
