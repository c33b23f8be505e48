"""The rows of a report's tables. Fields are columns; ``ColumnName`` marks those with an older, shorter name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from saman.scaling.statistics.columns import ColumnName
from saman.scaling.statistics.intervals import Estimate


@dataclass(frozen=True)
class RunRow:
    """A run. Measures are None for an excluded run."""

    run: str
    series: str | None
    strategy: str
    ranks: int
    nodes: int
    global_batch: int
    cores_per_rank: int | None
    state: str
    counts: bool
    problem: str | None
    samples_per_second: float | None
    end_to_end_samples_per_second: float | None
    window_median: float | None
    window_p5: float | None
    window_p95: float | None
    step_seconds: float | None
    exchange_seconds: float | None
    input_wait_seconds: float | None
    windows: int
    windows_dropped_at_start: int
    steady_state: str
    windows_compiled: int
    windows_incomplete: int
    windows_repeated: int
    lines_torn: int
    records_of_other_schema: int
    records_not_finite: int
    goodput: float | None
    failures: int | None
    lost_to_failures_seconds: float | None
    lost_to_restarts_seconds: float | None
    lost_to_checkpoints_seconds: float | None
    lost_to_waiting_seconds: float | None
    joules: float | None
    hardware: str
    software: str
    placement: str
    again: str


@dataclass(frozen=True)
class PointRow:
    """A rank count of a curve."""

    series: str
    drawn: bool
    scaling: str
    ranks: int
    nodes: int
    repeats: int
    samples_per_second: Estimate
    end_to_end_samples_per_second: float | None
    cpu_seconds_per_sample: float | None
    core_bound_samples_per_second: float | None
    window_median: float
    window_p5: float
    window_p95: float
    speedup: Estimate | None
    efficiency: Estimate | None
    step_seconds: Estimate
    baseline: Annotated[str | None, ColumnName("base")]
    karp_flatt: float | None
    compute_seconds: float
    exchange_seconds: float | None
    input_wait_seconds: float
    between_stages_seconds: float
    joules_per_sample: float | None
    outliers: str
    stragglers: str
    variation_per_node: str
    runs: str


@dataclass(frozen=True)
class ContrastRow:
    """A comparison of two curves at a rank count."""

    ranks: int
    series: str
    against: str
    ratio: Estimate
    p: float
    p_corrected: float
    different: bool
    verdict: str


@dataclass(frozen=True)
class LawRow:
    """A parameter of a law fitted to a curve, with the law's weight in the stack and its residuals."""

    series: str
    law: str
    chosen: bool
    weight: float | None
    one_rank_samples_per_second: float
    parameter: str
    value: float
    low: float | None
    high: float | None
    unit: str
    note: str
    largest_residual: float
    residuals: str
    source: str


@dataclass(frozen=True)
class PredictionRow:
    """A predicted rank count of a curve, with the cost of an epoch where an epoch was measured."""

    series: str
    laws: Annotated[str | None, ColumnName("law")]
    ranks: int
    nodes: int
    samples_per_second: float
    samples_per_second_low: Annotated[float | None, ColumnName("low")]
    samples_per_second_high: Annotated[float | None, ColumnName("high")]
    efficiency: float | None
    efficiency_low: float | None
    efficiency_high: float | None
    node_hours_per_epoch: float | None
    node_hours_per_epoch_low: Annotated[float | None, ColumnName("node_hours_low")]
    node_hours_per_epoch_high: Annotated[float | None, ColumnName("node_hours_high")]
    caution: str | None
    cliff_probability: float


@dataclass(frozen=True)
class ProcessRow:
    """A process of a run."""

    series: str
    ranks: int
    run: str
    rank: int
    node: str
    seconds_per_step: float
    own_seconds_per_step: float
    busy_seconds_per_step: float
    input_wait_seconds: float
    variation: float | None
    stage: int | None
    transfer_seconds: float | None
    bubble_seconds: float | None


@dataclass(frozen=True)
class LossRow:
    """A point of a run's loss curve."""

    series: str
    ranks: int
    run: str
    samples: float
    seconds: float
    loss: float


@dataclass(frozen=True)
class MetricRow:
    """A metric at the end of an epoch."""

    series: str
    ranks: int
    run: str
    epoch: int
    samples: float
    seconds: float
    metric: str
    value: float


@dataclass(frozen=True)
class FindingRow:
    """A finding."""

    kind: str
    hides_a_curve: bool
    text: str
