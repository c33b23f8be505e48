"""A curve of published or measured throughput, with its unit and its kind of scaling."""

from __future__ import annotations

from dataclasses import dataclass

from saman.scaling.models.laws import Scaling, ScalingPoint

NOMINAL = 0.9  # coverage of the intervals of forecasts
SUPPORTED_RATIO = 4.0  # forecasts are judged up to this multiple of the largest fitted count


@dataclass(frozen=True)
class ScalingSeries:
    """A published or measured curve for judging predictions.

    Attributes:
        points: Rates, in ascending order of ranks.
        unit: The published unit; rates are converted from it.
        nodes_known: Whether the ranks per node are known; otherwise all points count as on one node.
    """

    source: str
    id: str
    points: tuple[ScalingPoint, ...]
    scaling: Scaling = "weak"
    unit: str = "samples/s"
    nodes_known: bool = True
