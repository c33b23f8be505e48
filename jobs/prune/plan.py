"""The request of ``saman prune``, and the plan that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from saman.jobs.prune.usage import Usage, total

DAY = 86400.0


class KeepReason(str, Enum):
    """Reasons to keep a run."""

    FOREIGN = "another user's"
    LINK = "a symbolic link"
    DAMAGED = "damaged"
    ACTIVE = "not ended"
    NEEDED = "a run that has not ended needs it"
    NEWEST = "the newest of its experiment"
    PUBLISHED = "published as a model version"
    STUDY = "a result of a study"
    YOUNG = "too young"
    USED = "used by a run that stays"


class PruneKind(str, Enum):
    """Kinds of things that can be removed."""

    RUN = "run"
    CODE = "copy of code"
    ARRAY = "job array"
    LEFTOVER = "leftover of an earlier prune"
    CACHE = "cache"


@dataclass(frozen=True)
class PruneRequest:
    """What to remove.

    Attributes:
        names: Runs, experiments or studies to choose from; empty for all. A study named here loses its results.
        older_than_seconds: Only what has not changed for so long.
        keep: The number of newest runs of each experiment that stay.
        studies: Also results of studies.
        caches: Also the user's cache of wheels, converters and profiles.
    """

    names: tuple[str, ...] = ()
    older_than_seconds: float = 30 * DAY
    keep: int = 1
    studies: bool = False
    caches: bool = False


@dataclass(frozen=True)
class Removable:
    """Something to remove, with its disk use."""

    kind: PruneKind
    path: Path
    usage: Usage


@dataclass(frozen=True)
class Kept:
    """A run that stays, and the reason."""

    path: Path
    reason: KeepReason
    detail: str = ""

    @property
    def text(self) -> str:
        """The reason with its details."""
        return f"{self.reason.value}: {self.detail}" if self.detail else self.reason.value


@dataclass(frozen=True)
class PrunePlan:
    """What would be removed, and the runs that stay."""

    removable: tuple[Removable, ...]
    kept: tuple[Kept, ...]

    @property
    def usage(self) -> Usage:
        """What would be freed."""
        return total(each.usage for each in self.removable)
