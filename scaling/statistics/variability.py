"""Differences between ranks and nodes: coefficient of variation, stragglers, Karp–Flatt serial fraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saman.runs.telemetry.reader import variation
from saman.scaling.statistics.steady_state import modified_scores

Array = NDArray[np.float64]
_STRAGGLER_SCORE = 3.5
_STRAGGLER_SHARE = 0.05  # what a rank is over its peers, a synchronous step loses


@dataclass(frozen=True)
class Straggler:
    """A rank slower than its peers; ``slower`` is its excess over their median, as a share of it."""

    rank: int
    node: str
    slower: float


def karp_flatt(speedup: float, ranks: float) -> float | None:
    """Experimentally determined serial fraction (1/S − 1/p) ÷ (1 − 1/p) for speed-up S on p ranks.

    Source: Karp & Flatt, CACM 33(5), 1990.

    Returns:
        The fraction, negative for a super-linear speed-up; None at p ≤ 1.

    Example:
        >>> round(karp_flatt(speedup=3.2, ranks=4), 3)
        0.083
    """
    return None if ranks <= 1 else (1.0 / speedup - 1.0 / ranks) / (1.0 - 1.0 / ranks)


def variation_per_node(by_node: Mapping[str, Sequence[float] | Array]) -> dict[str, float | None]:
    """The coefficient of variation of the values of each node; None for a single value."""
    return {node: variation(values) for node, values in sorted(by_node.items())}


def stragglers(own_seconds: Mapping[int, float], nodes: Mapping[int, str]) -> list[Straggler]:
    """Find ranks slower than their peers, slowest first.

    In a synchronous step all ranks wait for the slowest, so step times are equal and only own work differs. A straggler
    is 5 % over the median of its peers and, among four ranks or more, an outlier.

    Args:
        own_seconds: Own seconds per step, without exchange, of each rank.
        nodes: Node of each rank.
    """
    ranks = sorted(own_seconds)
    if len(ranks) < 2:
        return []
    x = np.array([own_seconds[rank] for rank in ranks])
    found = []
    for place, rank in enumerate(ranks):
        peers = np.delete(x, place)
        slower = float(x[place] / np.median(peers) - 1.0)
        is_outlier = len(ranks) < 4 or float(modified_scores(x)[place]) > _STRAGGLER_SCORE
        if is_outlier and slower > _STRAGGLER_SHARE:
            found.append(Straggler(rank, nodes.get(rank, "?"), slower))
    return sorted(found, key=lambda straggler: -straggler.slower)
