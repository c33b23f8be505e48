"""Finds stragglers: ranks that take longer than their peers before every exchange, for which all others wait.

The same rule holds for finished runs (from telemetry) and for a run that goes on (from heartbeats).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

STRAGGLER_SCORE = 3.5  # modified z-score of an outlier (Iglewicz & Hoaglin 1993, §3)
STRAGGLER_SHARE = 0.05  # what a rank is over its peers, a synchronous step loses
FEWEST_FOR_SCORE = 4  # ranks; fewer have no spread to be an outlier of


@dataclass(frozen=True)
class Straggler:
    """A rank slower than its peers; ``slower`` is its excess over their median, as a share of it."""

    rank: int
    node: str
    slower: float

    @property
    def words(self) -> str:
        """The straggler in words.

        >>> Straggler(5, "n1", 0.3).words
        'rank 5 on n1 is 30% slower than its peers'
        """
        return f"rank {self.rank} on {self.node} is {self.slower:.0%} slower than its peers"


def stragglers(busy_seconds: Mapping[int, float], nodes: Mapping[int, str]) -> list[Straggler]:
    """Find ranks slower than their peers, slowest first.

    In a synchronous step all ranks wait for the slowest, so step times are equal and only the time before the exchange
    differs. A straggler is 5 % over the median of its peers and, among four ranks or more, an outlier.

    Args:
        busy_seconds: Seconds per step of each rank before it could exchange: own work and input wait.
        nodes: Node of each rank.

    >>> stragglers({0: 0.10, 1: 0.10, 2: 0.11, 3: 0.15}, {3: "n1"})[0].words
    'rank 3 on n1 is 50% slower than its peers'
    """
    if len(busy_seconds) < 2:
        return []
    ordered = sorted(busy_seconds.values())
    limit = _outlier_limit(ordered)
    found = []
    for rank, value in sorted(busy_seconds.items()):
        peers = _median_without(ordered, value)
        slower = value / peers - 1.0 if peers > 0 else 0.0
        if slower > STRAGGLER_SHARE and value > limit:
            found.append(Straggler(rank, nodes.get(rank, "?"), slower))
    return sorted(found, key=lambda straggler: -straggler.slower)


def _outlier_limit(ordered: Sequence[float]) -> float:
    """The value above which the modified z-score 0.6745·(x − median) ÷ MAD is that of an outlier."""
    if len(ordered) < FEWEST_FOR_SCORE:
        return 0.0
    middle = median(ordered)
    deviations = [abs(value - middle) for value in ordered]
    # Where more than half of the values are equal, MAD is zero, and the mean absolute deviation replaces it; without
    # the farthest value, because no rank of four would ever be 3.5 times a mean to which it gives a quarter.
    spread = median(deviations) / 0.6745 or 1.253314 * (sum(deviations) - max(deviations)) / (len(deviations) - 1)
    return middle + STRAGGLER_SCORE * spread


def _median_without(ordered: Sequence[float], value: float) -> float:
    """The median of all but one occurrence of ``value``."""
    place, rest = bisect_left(ordered, value), len(ordered) - 1
    middle = {(rest - 1) // 2, rest // 2}
    return sum(ordered[index + (index >= place)] for index in middle) / len(middle)
