"""How long to wait before Slurm is asked again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 60.0
GROWTH = 1.5


@dataclass(frozen=True)
class Backoff:
    """The time between two questions: it grows from 1 s to 60 s while nothing changes, and begins anew after a change.

    >>> Backoff().grown().seconds
    1.5
    """

    seconds: float = FIRST_SECONDS

    def grown(self) -> Backoff:
        """The wait after one more question that brought nothing new."""
        return Backoff(min(LONGEST_SECONDS, self.seconds * GROWTH))
