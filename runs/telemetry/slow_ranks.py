"""Ranks that are slow now, for long enough to be named while the run goes on. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from saman.runs.telemetry.stragglers import Straggler

NAMED_AFTER_SECONDS = 5.0  # a shorter delay is a stall of a moment
OVER_AFTER_SECONDS = 10.0  # a rank at the limit must not come and go
EXCLUDED_AFTER_SECONDS = 60.0  # to leave costs the others a new world


@dataclass(frozen=True)
class SlowRankChange:
    """A rank that has become a straggler; with ``ended``, a rank that has recovered."""

    straggler: Straggler
    ended: bool


@dataclass
class _Slow:
    """A rank that is or was slow, with the times of the first and the newest look that saw it slow."""

    straggler: Straggler
    since: float
    seen: float
    named: bool = False


class SlowRanks:
    """Watches the stragglers of one look after the other; times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._slow: dict[int, _Slow] = {}

    def look(self, found: Sequence[Straggler], now: float) -> list[SlowRankChange]:
        """Take the stragglers of a look; return the ranks that are named now, and those that are no longer slow."""
        changes: list[SlowRankChange] = []
        for straggler in found:
            slow = self._slow.setdefault(straggler.rank, _Slow(straggler, now, now))
            slow.straggler, slow.seen = straggler, now
            if not slow.named and now - slow.since >= NAMED_AFTER_SECONDS:
                slow.named = True
                changes.append(SlowRankChange(straggler, ended=False))
        present = {straggler.rank for straggler in found}
        for rank, slow in list(self._slow.items()):
            if rank not in present and (not slow.named or now - slow.seen >= OVER_AFTER_SECONDS):
                del self._slow[rank]
                if slow.named:
                    changes.append(SlowRankChange(slow.straggler, ended=True))
        return changes

    def seconds(self, now: float) -> Mapping[int, float]:
        """For how long each named rank has been slow."""
        return {rank: now - slow.since for rank, slow in self._slow.items() if slow.named}

    def forget(self, rank: int) -> None:
        """Forget a rank that leaves the run; its place may be taken by a process that is not slow."""
        self._slow.pop(rank, None)

    def to_exclude(self, size: int, least: int, now: float) -> Straggler | None:
        """Return the slowest rank that the run is better off without (``launch.on_straggler: exclude``).

        Without a rank each of the others does size ÷ (size − 1) of its work, so leaving pays off if the rank is slower
        than its peers by more than 1 ÷ (size − 1).

        Args:
            size: Ranks of the run now.
            least: Ranks that the run needs.
            now: The time of this look.
        """
        if size <= max(least, 1):
            return None
        lasting = [
            slow.straggler
            for slow in self._slow.values()
            if slow.named and now - slow.since >= EXCLUDED_AFTER_SECONDS and slow.straggler.slower > 1.0 / (size - 1)
        ]
        return max(lasting, key=lambda straggler: straggler.slower, default=None)
