"""How ranks and nodes differ: coefficient of variation per node, stragglers, and the Karp–Flatt serial fraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saman.runs.telemetry.reader import variation
from saman.scaling.statistics.steady_state import modified_scores

Array = NDArray[np.float64]
_STRAGGLER_SCORE = 3.5
_STRAGGLER_SHARE = 0.05  # a rank 5 % over the median of its peers costs a synchronous step about as much


@dataclass(frozen=True)
class Straggler:
    """A rank whose own work takes longer than that of its peers; ``slower`` is a share of their median."""

    rank: int
    node: str
    slower: float


def karp_flatt(speedup: float, ranks: float) -> float | None:
    """Experimentally determined serial fraction (1/S − 1/p) ÷ (1 − 1/p); none at p = 1.

    Source: Karp & Flatt, CACM 33(5), 1990. Negative where the speed-up is super-linear.
    """
    return None if ranks <= 1 else (1.0 / speedup - 1.0 / ranks) / (1.0 - 1.0 / ranks)


def variation_per_node(by_node: Mapping[str, Sequence[float] | Array]) -> dict[str, float | None]:
    """The coefficient of variation of the values of each node."""
    return {node: variation(values) for node, values in sorted(by_node.items())}


def stragglers(own_seconds: Mapping[int, float], nodes: Mapping[int, str]) -> list[Straggler]:
    """Ranks whose own seconds per step (without exchange) stand out from their peers, worst first.

    In a synchronous step everybody waits for the slowest, so step times are alike and only own work tells. Two ranks
    or three are compared by share alone.
    """
    ranks = sorted(own_seconds)
    if len(ranks) < 2:
        return []
    x = np.array([own_seconds[rank] for rank in ranks])
    found = []
    for place, rank in enumerate(ranks):
        peers = np.delete(x, place)
        slower = float(x[place] / np.median(peers) - 1.0)
        apart = len(ranks) < 4 or float(modified_scores(x)[place]) > _STRAGGLER_SCORE
        if apart and slower > _STRAGGLER_SHARE:
            found.append(Straggler(rank, nodes.get(rank, "?"), slower))
    return sorted(found, key=lambda straggler: -straggler.slower)
