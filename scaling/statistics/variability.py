"""Differences between nodes and rank counts: coefficient of variation per node, Karp–Flatt serial fraction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from saman.runs.telemetry.processes import variation

Array = NDArray[np.float64]


def karp_flatt(speedup: float, ranks: float) -> float | None:
    """The Karp–Flatt statistic: the serial fraction (1/S − 1/p) ÷ (1 − 1/p) for speed-up S on p ranks.

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
