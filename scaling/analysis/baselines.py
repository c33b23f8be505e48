"""The baseline of a curve, the runs that its speed-up and efficiency are relative to, and ratios of throughput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saman.scaling.analysis.groups import RunGroup
from saman.scaling.analysis.run_values import MeasuredRun, timed_rates
from saman.scaling.statistics.bootstrap import ratio_estimate
from saman.scaling.statistics.drift import ratio_within_blocks
from saman.scaling.statistics.intervals import Estimate, median_estimate


@dataclass(frozen=True)
class Baseline:
    """A point of a curve, its own or another's, that speed-up and efficiency are relative to.

    Attributes:
        curve: Label of the curve that the baseline belongs to.
        throughput: In samples per second, with its interval over ``runs``.
    """

    curve: str
    ranks: int
    runs: tuple[MeasuredRun, ...]
    throughput: Estimate

    @property
    def label(self) -> str:
        """The baseline in words: ``horovod on 1 rank``."""
        return f"{self.curve} on {self.ranks} rank{'s' if self.ranks > 1 else ''}"

    def ideal_throughput(self, ranks: int) -> float:
        """Samples per second of ``ranks`` ranks at an efficiency of 1."""
        return self.throughput.value / self.ranks * ranks


def find_baseline(group: RunGroup, groups: Sequence[RunGroup], ranks: int) -> Baseline | None:
    """The baseline of a curve.

    Args:
        group: The curve's runs.
        groups: The runs of all curves.
        ranks: Rank count of the baseline.

    Returns:
        The curve's own runs on ``ranks`` ranks, or those of the same curve before ranks share cores. Where it has none
        and ``ranks`` is 1: ``single`` with the same
        settings, for a pipeline also a pipeline of one stage. None where there is neither.
    """
    for own in (group, *(other for other in groups if _before_sharing(other, group))):
        for (count, _), runs in own.points.items():
            if count == ranks:
                return Baseline(own.label, ranks, runs, _throughput(runs))
    if ranks != 1:
        return None
    for strategy in ("single", "pipeline") if group.strategy == "pipeline" else ("single",):
        for other in groups:
            alike = other.training_settings == group.training_settings and other.scaling == group.scaling
            if other.strategy == strategy and alike and (1, 1) in other.points:
                return Baseline(other.label, 1, other.points[1, 1], _throughput(other.points[1, 1]))
    return None


def _before_sharing(other: RunGroup, group: RunGroup) -> bool:
    """Whether ``other`` is the curve of ``group`` on rank counts that do not share cores yet."""
    same = other.settings == group.settings and other.scaling == group.scaling
    return same and group.cores_shared and not other.cores_shared


def _throughput(runs: Sequence[MeasuredRun]) -> Estimate:
    return median_estimate([run.measured.samples_per_second for run in runs])


def throughput_ratio(
    runs: Sequence[MeasuredRun], against: Sequence[MeasuredRun], drifts: bool, scale: float = 1.0
) -> Estimate:
    """``scale`` × median throughput of ``runs`` ÷ that of ``against``, with its interval.

    Args:
        runs: Runs of the numerator.
        against: Runs of the denominator.
        drifts: Whether the runs drift: the interval then comes from the ratio within each repeat, else from a bootstrap
            over independent runs.
        scale: Factor of value and interval.
    """
    if drifts:
        return ratio_within_blocks(timed_rates(runs), timed_rates(against), scale=scale)
    rates, base = ([run.measured.samples_per_second for run in each] for each in (runs, against))
    return ratio_estimate(rates, base, scale=scale)
