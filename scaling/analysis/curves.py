"""A curve over ranks: its points, its baseline, the law chosen for it and what that law predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saman.scaling.analysis.groups import Group
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.models.forecast import LawChoice, ThroughputForecast
from saman.scaling.models.laws import ScalingPoint


@dataclass(frozen=True)
class Curve:
    """A curve with its base case, the law chosen for it and what that law predicts."""

    group: Group
    points: tuple[CurvePoint, ...]
    base: str | None
    choice: LawChoice | None
    predictions: tuple[ThroughputForecast, ...]

    @property
    def label(self) -> str:
        """The name of the curve."""
        return self.group.label


def beyond(measured: Sequence[ScalingPoint], ranks: int) -> ScalingPoint:
    """Where so many ranks would lie: on nodes as full as the fullest measured, on one node where only one was."""
    largest = measured[-1]
    if largest.nodes == 1:
        return ScalingPoint(ranks, 0.0, 1)
    per_node = max(-(-point.ranks // point.nodes) for point in measured)
    return ScalingPoint(ranks, 0.0, max(1, -(-ranks // per_node)))
