"""The values that gates measure, as manifests and the audit log record them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricMeasure:
    """The value of a metric; ``None`` where the version has none of this name."""

    metric: str
    value: float | None


@dataclass(frozen=True)
class SizeMeasure:
    """Size of a version's files, and the largest that is allowed."""

    bytes: int
    at_most: int


@dataclass(frozen=True)
class LatencyMeasure:
    """Latency of an example, and the longest that is allowed."""

    milliseconds: float
    at_most: float


@dataclass(frozen=True)
class ApprovalCount:
    """Approvers who count, and the number of approvals that is required."""

    by: tuple[str, ...]
    at_least: int
