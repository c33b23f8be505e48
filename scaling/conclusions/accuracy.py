"""Time and samples to a target accuracy, and whether larger batches need more epochs for it.

As in MLPerf Training, a run reaches a target with the first evaluation at or beyond it, and a larger batch must not be
paid for with more epochs (the reference convergence points of its rules).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from math import floor, isfinite, log10, nan

from saman.configs.errors import UserError
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.learning import Epoch
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.statistics.bootstrap import ratio_estimate
from saman.scaling.statistics.intervals import Estimate, median_estimate
from saman.scaling.statistics.rank_test import SIGNIFICANCE, holm, larger_test

METRICS = ("val_accuracy", "accuracy", "val_loss", "loss")
_DIGITS = 3  # of a default target
_ONE_SIDED = 0.9  # a two-sided interval of 90 % has a one-sided upper limit of 95 %


@dataclass(frozen=True)
class Target:
    """A value of a metric to reach; losses are reached from above."""

    metric: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read the target accuracy, ``METRIC=VALUE``.

        Raises:
            UserError: The text is not of this form, or the value is no finite number.
        """
        metric, _, value = text.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = nan
        if not metric.strip() or not isfinite(number):
            raise UserError(f"{text!r} is not METRIC=VALUE", where="--target", remedy="for example val_accuracy=0.97")
        return cls(metric.strip(), number)

    @property
    def is_loss(self) -> bool:
        """Whether smaller values of the target accuracy's metric are better."""
        return self.metric.endswith("loss")

    def reached_by(self, value: float) -> bool:
        """Whether a value is at or beyond the target accuracy."""
        return value <= self.value if self.is_loss else value >= self.value

    @property
    def words(self) -> str:
        """The target accuracy in words: ``val_accuracy ≥ 0.97``."""
        return f"{self.metric} {'≤' if self.is_loss else '≥'} {self.value:.4g}"


@dataclass(frozen=True)
class TimeToTarget:
    """What the runs of a point need to reach the target; None where a run never reached it.

    Attributes:
        seconds: Wall time of the attempts: start, tracing, validation and checkpoints included.
        note: Why estimates are missing.
    """

    series: str
    ranks: int
    global_batch: int
    repeats: int
    reached: int
    epochs: Estimate | None
    samples: Estimate | None
    seconds: Estimate | None
    note: str


class BatchVerdict(Enum):
    """Whether a larger batch needs more epochs."""

    MORE = "needs more epochs"
    NOT_SHOWN = "no need of more epochs shown"
    TOO_FEW = "too few repeats for a verdict"


@dataclass(frozen=True)
class BatchTest:
    """A one-sided exact rank test: does the larger batch need more epochs than the smallest?

    Attributes:
        ratio: Epochs of the larger ÷ epochs of the smallest batch; the upper limit holds with 95 % by itself.
        corrected: The p-value, corrected for the number of batches (Holm).
    """

    series: str
    batch: int
    smallest: int
    ratio: Estimate
    p: float
    corrected: float
    verdict: BatchVerdict


@dataclass(frozen=True)
class Accuracy:
    """The target and what it takes to reach it."""

    target: Target
    points: tuple[TimeToTarget, ...]
    batches: tuple[BatchTest, ...]


def time_to_accuracy(curves: Sequence[Curve], target: Target | None = None) -> Accuracy | None:
    """Conclude the time, samples and epochs to a target accuracy.

    Args:
        curves: Curves whose runs recorded a metric.
        target: The target; by default a metric on validation data where there is any, at the value that the worst run
            reaches.

    Returns:
        None where no run recorded a metric.
    """
    runs = [run for curve in curves for point in curve.points for run in point.runs]
    chosen = target or default_target(runs)
    if chosen is None:
        return None
    points = tuple(_point(curve, point, chosen) for curve in curves for point in curve.points)
    return Accuracy(chosen, points, tuple(_batch_tests(curves, chosen)))


def default_target(runs: Sequence[MeasuredRun]) -> Target | None:
    """The accuracy to reach by default: the first metric that every run recorded, where even the worst run arrives."""
    for metric in METRICS:
        found = [[epoch.metrics[metric] for epoch in run.measured.epochs if metric in epoch.metrics] for run in runs]
        if found and all(found):
            is_loss = Target(metric, 0.0).is_loss
            worst = max(map(min, found)) if is_loss else min(map(max, found))
            return Target(metric, _rounded(worst, up=is_loss))
    return None


def _rounded(value: float, up: bool) -> float:
    """The value with a few digits, on the side that stays reachable."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (floor(log10(abs(value))) - _DIGITS + 1)
    return round((-floor(-value / unit) if up else floor(value / unit)) * unit, 12)


def first_reach(run: MeasuredRun, target: Target) -> Epoch | None:
    """The first epoch whose metric reaches the target accuracy."""
    epochs = (epoch for epoch in run.measured.epochs if target.metric in epoch.metrics)
    return next((epoch for epoch in epochs if target.reached_by(epoch.metrics[target.metric])), None)


def _point(curve: Curve, point: CurvePoint, target: Target) -> TimeToTarget:
    reached = [epoch for run in point.runs if (epoch := first_reach(run, target)) is not None]
    whole = len(reached) == len(point.runs)

    def estimate(values: list[float]) -> Estimate | None:
        return median_estimate(values) if whole else None

    missing = len(point.runs) - len(reached)
    return TimeToTarget(
        series=curve.label,
        ranks=point.ranks,
        global_batch=point.runs[0].facts.global_batch,
        repeats=len(point.runs),
        reached=len(reached),
        epochs=estimate([float(epoch.epoch) for epoch in reached]),
        samples=estimate([epoch.samples for epoch in reached]),
        seconds=estimate([epoch.seconds for epoch in reached]),
        note="" if whole else f"{missing} of {len(point.runs)} runs never reach the target; a median would flatter",
    )


def _batch_tests(curves: Sequence[Curve], target: Target) -> list[BatchTest]:
    """Tests of each larger global batch against the smallest of the same training and strategy."""
    compared = []
    for curve_runs, label in _alike(curves):
        by_batch: dict[int, list[float]] = {}
        for run in curve_runs:
            epoch = first_reach(run, target)
            by_batch.setdefault(run.facts.global_batch, []).append(float(epoch.epoch) if epoch else float("inf"))
        smallest = min(by_batch)
        for batch in sorted(set(by_batch) - {smallest}):
            compared.append((label, batch, smallest, by_batch[batch], by_batch[smallest]))
    tests = [larger_test(more, less) for _, _, _, more, less in compared]
    corrected = holm([test.p for test in tests])
    return [
        BatchTest(label, batch, smallest, _ratio(more, less), test.p, p, _verdict(p, test.smallest * len(tests)))
        for (label, batch, smallest, more, less), test, p in zip(compared, tests, corrected, strict=True)
    ]


def _alike(curves: Sequence[Curve]) -> list[tuple[list[MeasuredRun], str]]:
    """The runs of curves that differ in batch size alone."""
    groups: dict[str, tuple[list[MeasuredRun], str]] = {}
    for curve in curves:
        key = str(sorted((key, str(value)) for key, value in curve.group.settings.items()))
        runs, _ = groups.setdefault(key, ([], curve.group.strategy))
        runs += [run for point in curve.points for run in point.runs]
    return list(groups.values())


def _ratio(more: Sequence[float], less: Sequence[float]) -> Estimate:
    finite = [value for value in (*more, *less) if value != float("inf")]
    if len(finite) < len(more) + len(less):
        return Estimate(float("inf"), min(len(more), len(less)), None, "some runs never reach the target")
    return ratio_estimate(more, less, level=_ONE_SIDED)


def _verdict(corrected: float, smallest: float) -> BatchVerdict:
    if corrected <= SIGNIFICANCE:
        return BatchVerdict.MORE
    return BatchVerdict.TOO_FEW if smallest > SIGNIFICANCE else BatchVerdict.NOT_SHOWN
