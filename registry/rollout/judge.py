"""Judges a rollout from its counts, at any time and as often as wanted. Pure.

All tests of harm together roll a harmless candidate back with at most probability α = 1 - confidence: the e-processes
of accuracy, errors, distribution and disagreement are averaged with fixed weights (an average of e-processes is an
e-process under any dependence: Vovk and Wang, "E-values: calibration, combination and applications", Annals of
Statistics 49, 2021), latency has its own share of α, and the shares add up to α. Promotion requires that every margin
is shown to hold, each at α: an intersection-union test (Berger, Technometrics 24, 1982) needs no correction.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

import numpy as np
from scipy.special import logsumexp

from saman.configs.schemas.policy import RolloutPolicy
from saman.registry.rollout.evidence import CLASSES, LATENCY_EDGES, BlockCounts, Evidence, block_values
from saman.registry.rollout.sequential import (
    Counts,
    log_mean_evidence,
    log_rate_evidence,
    mean_interval,
    quantile_ranks,
    rate_interval,
)


class RolloutMetric(str, Enum):
    """What a rollout compares."""

    ACCURACY = "accuracy"
    ERRORS = "errors"
    SHIFT = "shift"
    DISAGREEMENT = "disagreement"
    LATENCY = "latency"


class RolloutVerdict(str, Enum):
    """What the evidence says now."""

    GO_ON = "go on"
    PROMOTE = "promote"
    ROLL_BACK = "roll back"


# Shares of α. Accuracy has most: its effects are the smallest that matter.
SHARES = {
    RolloutMetric.ACCURACY: 0.6,
    RolloutMetric.ERRORS: 0.2,
    RolloutMetric.SHIFT: 0.05,
    RolloutMetric.DISAGREEMENT: 0.05,
    RolloutMetric.LATENCY: 0.1,
}


@dataclass(frozen=True)
class MetricFinding:
    """A metric now.

    Attributes:
        metric: The metric.
        name: The metric with its quantile or class.
        observations: Blocks, or requests.
        estimate: Excess of the candidate: of errors, of wrong predictions, of a class's rate, the rate of
            disagreement, or the ratio of latencies; ``None`` before the first observation.
        lower: Lower end of its confidence sequence.
        upper: Upper end.
        margin: The largest tolerated value.
        log_harm: Log e-value of harm; for latency 0, or the logarithm of 1/α once harm is shown.
        is_harmful: This metric alone shows harm.
        is_acceptable: The value is shown to lie within the margin.
        is_required: Promotion waits for it.
    """

    metric: RolloutMetric
    name: str
    observations: int
    estimate: float | None
    lower: float | None
    upper: float | None
    margin: float
    log_harm: float
    is_harmful: bool
    is_acceptable: bool
    is_required: bool

    def to_json(self) -> dict[str, Any]:
        """The finding as plain values."""
        return {**asdict(self), "metric": self.metric.value}


@dataclass(frozen=True)
class Judgement:
    """The verdict and what it rests on."""

    verdict: RolloutVerdict
    reason: str
    requests: tuple[int, int]
    findings: tuple[MetricFinding, ...]

    def to_json(self) -> dict[str, Any]:
        """The judgement as plain values."""
        findings = [finding.to_json() for finding in self.findings]
        return {"verdict": self.verdict.value, "reason": self.reason, "requests": list(self.requests),
                "findings": findings}  # fmt: skip


def judge(evidence: Evidence, policy: RolloutPolicy, *, intervals: bool = True) -> Judgement:
    """Judge all counts so far.

    Args:
        evidence: The counts of all servers.
        policy: The margins.
        intervals: Compute the confidence sequences of differences and rates too; they do not change the verdict.
    """
    alpha = 1 - policy.confidence
    findings = (
        _judge_difference(RolloutMetric.ACCURACY, evidence.losses, policy.accuracy_tolerance, alpha,
                          intervals=intervals, required=policy.accuracy_required or evidence.losses.blocks > 0),
        _judge_difference(RolloutMetric.ERRORS, evidence.errors, policy.errors_tolerance, alpha,
                          intervals=intervals, required=True),
        _judge_shift(evidence, policy.shift_at_most, alpha, intervals),
        *_judge_disagreement(evidence, policy.disagreement_at_most, alpha),
        *_judge_latency(evidence, policy, alpha),
    )  # fmt: skip
    verdict, reason = _decide(findings, alpha)
    requests = (int(evidence.requests[0]), int(evidence.requests[1]))
    return Judgement(verdict, reason, requests, findings)


def _decide(findings: tuple[MetricFinding, ...], alpha: float) -> tuple[RolloutVerdict, str]:
    harmful = [finding for finding in findings if finding.is_harmful]
    averaged = [finding for finding in findings if finding.metric is not RolloutMetric.LATENCY]
    if not harmful and harm_level(averaged) >= -math.log(alpha * (1 - SHARES[RolloutMetric.LATENCY])):
        harmful = [max(averaged, key=lambda finding: finding.log_harm + math.log(SHARES[finding.metric]))]
    if harmful:
        return RolloutVerdict.ROLL_BACK, "; ".join(_describe(finding) for finding in harmful)
    required = [finding for finding in findings if finding.is_required]
    if required and all(finding.is_acceptable for finding in required):
        return RolloutVerdict.PROMOTE, "every margin holds: " + "; ".join(_describe(finding) for finding in required)
    waiting = [finding.name for finding in required if not finding.is_acceptable]
    return RolloutVerdict.GO_ON, f"not shown yet: {', '.join(waiting)}"


def harm_level(findings: list[MetricFinding]) -> float:
    """Logarithm of the weighted mean of the e-values of harm; a metric without data has the e-value 1."""
    given = {finding.metric: finding.log_harm for finding in findings}
    shares = {metric: share for metric, share in SHARES.items() if metric is not RolloutMetric.LATENCY}
    weights = np.array(list(shares.values())) / sum(shares.values())
    return float(logsumexp([given.get(metric, 0.0) for metric in shares], b=weights))


def _describe(finding: MetricFinding) -> str:
    if finding.estimate is None or finding.lower is None or finding.upper is None:
        return finding.name
    interval = f"{finding.estimate:+.4g} [{finding.lower:.4g}, {finding.upper:.4g}]"
    return f"{finding.name} {interval}, margin {finding.margin:g}, {finding.observations} observations"


def _judge_difference(
    metric: RolloutMetric, blocks: BlockCounts, margin: float, alpha: float, *, intervals: bool, required: bool
) -> MetricFinding:
    values = block_values(blocks.per_block)
    candidate, stable = blocks.rates()
    log_harm = float(log_mean_evidence(blocks.counts, values, 0.0))
    within = float(log_mean_evidence(blocks.counts, -values, -margin))
    lower, upper = mean_interval(blocks.counts, values, alpha) if intervals else (None, None)
    return MetricFinding(
        metric=metric,
        name={RolloutMetric.ACCURACY: "loss of accuracy", RolloutMetric.ERRORS: "excess of errors"}[metric],
        observations=blocks.blocks,
        estimate=candidate - stable if blocks.blocks else None,
        lower=lower,
        upper=upper,
        margin=margin,
        log_harm=log_harm,
        is_harmful=log_harm >= -math.log(alpha * SHARES[metric]),
        is_acceptable=within >= -math.log(alpha),
        is_required=required,
    )


def _judge_shift(evidence: Evidence, margin: float, alpha: float, intervals: bool) -> MetricFinding:
    """Largest change of a class's rate; the e-values of all classes and both directions are averaged."""
    values = block_values(evidence.per_block)
    names = list(evidence.classes)
    table: Counts = np.array([evidence.classes[name].counts for name in names]).reshape(len(names), len(values))
    both = [log_mean_evidence(table, sign * values, margin) for sign in (1.0, -1.0)] if names else []
    # The slots without predictions count with the e-value 1, so that the weights do not depend on the data.
    unused = 2 * (CLASSES - len(names))
    log_harm = float(logsumexp([*np.ravel(both), *([0.0] * unused)]) - math.log(2 * CLASSES))
    rates = {name: float(np.subtract(*evidence.classes[name].rates())) for name in names}
    largest = max(rates, key=lambda name: abs(rates[name])) if names else None
    lower, upper = None, None
    if largest and intervals:
        lower, upper = mean_interval(evidence.classes[largest].counts, values, alpha / CLASSES)
    return MetricFinding(
        metric=RolloutMetric.SHIFT,
        name=f"shift of predictions of {largest}" if largest else "shift of predictions",
        observations=evidence.predictions,
        estimate=rates[largest] if largest else None,
        lower=lower,
        upper=upper,
        margin=margin,
        log_harm=log_harm,
        is_harmful=log_harm >= -math.log(alpha * SHARES[RolloutMetric.SHIFT]),
        is_acceptable=True,
        is_required=False,
    )


def _judge_disagreement(evidence: Evidence, limit: float | None, alpha: float) -> tuple[MetricFinding, ...]:
    """The rate of different answers to the same request; nothing where neither limit nor data exist."""
    different, both = (int(number) for number in evidence.disagreements)
    if limit is None and not both:
        return ()
    lower, upper = rate_interval(different, both, alpha)
    log_harm = max(-1e6, float(log_rate_evidence(different, both, limit))) if limit is not None else 0.0
    return (
        MetricFinding(
            metric=RolloutMetric.DISAGREEMENT,
            name="disagreement with stable",
            observations=both,
            estimate=different / both if both else None,
            lower=lower,
            upper=upper,
            margin=1.0 if limit is None else limit,
            log_harm=log_harm,
            is_harmful=log_harm >= -math.log(alpha * SHARES[RolloutMetric.DISAGREEMENT]),
            is_acceptable=limit is None or upper <= limit,
            is_required=limit is not None and both > 0,
        ),
    )


def _judge_latency(evidence: Evidence, policy: RolloutPolicy, alpha: float) -> tuple[MetricFinding, ...]:
    """Ratio of latency quantiles, candidate to stable, from a confidence sequence of each of them."""
    share = alpha * SHARES[RolloutMetric.LATENCY] / len(policy.latency_quantiles)
    margin = policy.latency_at_most_times
    found = []
    for level in policy.latency_quantiles:
        strict = [_quantile_bounds(row, level, share / 2) for row in evidence.latencies]
        plain = [_quantile_bounds(row, level, alpha / 2) for row in evidence.latencies]
        lower, upper = plain[0][0] / plain[1][1], plain[0][1] / plain[1][0] if plain[1][0] > 0 else math.inf
        middle = [_quantile(row, level) for row in evidence.latencies]
        known = evidence.latencies.sum(axis=1).min() > 0
        harmful = strict[0][0] > margin * strict[1][1]
        found.append(
            MetricFinding(
                metric=RolloutMetric.LATENCY,
                name=f"ratio of latencies at {level:g}",
                observations=int(evidence.latencies.sum(axis=1).min()),
                estimate=middle[0] / middle[1] if known else None,
                lower=lower if known else None,
                upper=upper if known and math.isfinite(upper) else None,
                margin=margin,
                log_harm=-float(math.log(share)) if harmful else 0.0,
                is_harmful=harmful,
                is_acceptable=upper <= margin,
                is_required=True,
            )
        )
    return tuple(found)


def _quantile_bounds(row: Counts, level: float, alpha: float) -> tuple[float, float]:
    """Lower and upper bound of a latency quantile, in seconds, rounded outwards to the edges of its buckets."""
    low, high = quantile_ranks(level, int(row.sum()), alpha)
    below = np.cumsum(row)
    first = int(np.searchsorted(below, max(low, 1), side="left"))
    last = int(np.searchsorted(below, high, side="right"))
    lower = LATENCY_EDGES[first - 1] if low > 0 and 0 < first <= len(LATENCY_EDGES) else 0.0
    return float(lower), float(LATENCY_EDGES[last]) if last < len(LATENCY_EDGES) else float("inf")


def _quantile(row: Counts, level: float) -> float:
    """The upper edge of the bucket that holds the quantile, in seconds."""
    at = int(np.searchsorted(np.cumsum(row), max(1.0, level * row.sum()), side="left"))
    return float(LATENCY_EDGES[min(at, len(LATENCY_EDGES) - 1)])
