"""How many trials a study may start now. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Standing:
    """What a study has done so far.

    Attributes:
        counted: Trials that count, those under way included.
        under_way: Trials under way.
        used_hours: Node-hours used, those of trials under way included.
        longest_hours: The most that a finished trial used; by default the bound of a trial.
    """

    counted: int
    under_way: int
    used_hours: float
    longest_hours: float


def free_places(standing: Standing, most: int | None, concurrency: int, node_hours: float | None) -> int:
    """Trials that may start now.

    A trial starts if the budget suffices for it and for all trials under way, each at the price of the longest so far.

    >>> free_places(Standing(counted=4, under_way=1, used_hours=0.9, longest_hours=0.2), 10, 4, node_hours=1.5)
    2
    """
    found = concurrency - standing.under_way
    if most is not None:
        found = min(found, most - standing.counted)
    if node_hours is not None:
        left = node_hours - standing.used_hours
        affordable = math.floor(left / standing.longest_hours + 1e-9) if standing.longest_hours > 0 else found
        found = min(found, affordable - standing.under_way)
    return max(0, found)
