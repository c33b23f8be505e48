"""Paired comparison of a candidate with the stable model on the same examples.

Classification: the exact McNemar test (McNemar 1947) for any difference, and the score interval for the difference of
paired proportions (Tango 1998, Statistics in Medicine 17:891–908) for its size.
Regression: a bootstrap of the paired differences of squared errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

_RESAMPLES = 10_000
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class PairedComparison:
    """The comparison of two models; higher is better.

    ``difference`` is candidate − stable in accuracy (regression: minus the mean squared error), ``lower`` its one-sided
    lower confidence bound, ``p_value`` that of no difference (regression: ``None``).
    """

    measure: str
    examples: int
    candidate: float
    stable: float
    difference: float
    lower: float
    p_value: float | None
    only_candidate_right: int = 0
    only_stable_right: int = 0


def compare(candidate: Array, stable: Array, labels: Array, confidence: float) -> PairedComparison:
    """Compare the answers of two models to the same examples.

    Args:
        candidate: The candidate's answers, examples first.
        stable: The stable model's answers, examples first.
        labels: The true labels, examples first.
        confidence: One-sided, such as 0.95.

    Raises:
        ValueError: The shapes differ.
    """
    if len(candidate) != len(stable) or len(candidate) != len(labels) or not len(labels):
        raise ValueError(f"{len(candidate)} and {len(stable)} answers to {len(labels)} examples")
    if is_classification(candidate, labels):
        return _accuracies(mark_correct(candidate, labels), mark_correct(stable, labels), confidence)
    return _errors(candidate, stable, labels, confidence)


def is_classification(answers: Array, labels: Array) -> bool:
    """Whether answers are scores of classes and labels are classes (whole numbers, or one-hot rows)."""
    if answers.ndim != 2:
        return False
    if answers.shape[1] == 1:
        return bool(np.isin(labels, (0, 1)).all())
    one_hot = labels.ndim == 2 and labels.shape[1] == answers.shape[1]
    return one_hot or (labels.size == len(labels) and np.issubdtype(labels.dtype, np.integer))


def mark_correct(answers: Array, labels: Array) -> Array:
    """Mark the examples that a classifier answers correctly (boolean). An answer that is not finite is wrong."""
    truth = labels.argmax(1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1)
    given = answers.argmax(1) if answers.shape[1] > 1 else _binary(answers.reshape(-1))
    return np.asarray((given == truth) & np.isfinite(answers).all(axis=1))


def _binary(scores: Array) -> Array:
    probabilities = bool(((scores >= 0) & (scores <= 1)).all())
    return np.asarray(scores > (0.5 if probabilities else 0.0)).astype(int)


def _accuracies(candidate: Array, stable: Array, confidence: float) -> PairedComparison:
    better, worse = int((candidate & ~stable).sum()), int((stable & ~candidate).sum())
    count = len(candidate)
    return PairedComparison(
        measure="accuracy",
        examples=count,
        candidate=float(candidate.mean()),
        stable=float(stable.mean()),
        difference=(better - worse) / count,
        lower=tango_lower(better, worse, count, confidence),
        p_value=mcnemar(better, worse),
        only_candidate_right=better,
        only_stable_right=worse,
    )


def mcnemar(better: int, worse: int) -> float:
    """Exact two-sided p-value of no difference.

    Args:
        better: Examples that only the candidate answers correctly.
        worse: Examples that only the stable model answers correctly.
    """
    from scipy.stats import binomtest

    total = better + worse
    return float(binomtest(better, total, 0.5).pvalue) if total else 1.0


def tango_lower(better: int, worse: int, count: int, confidence: float) -> float:
    """One-sided lower bound of the difference of paired proportions (Tango 1998, equations 8 and 10).

    Args:
        better: Number of examples that only the candidate answers correctly.
        worse: Number of examples that only the stable version answers correctly.
        count: Number of all examples.
        confidence: The level of the bound, between 0 and 1.

    Returns:
        The bound of candidate − stable, between −1 and (better − worse) / count.
    """
    z = NormalDist().inv_cdf(confidence)

    def statistic(delta: float) -> float:
        b = -better - worse + (2 * count - better + worse) * delta
        c = -worse * delta * (1 - delta)
        q = (math.sqrt(max(0.0, b * b - 8 * count * c)) - b) / (4 * count)
        variance = count * (2 * q + delta * (1 - delta))
        return (better - worse - count * delta) / math.sqrt(variance) if variance > 0 else 0.0

    low, high = -1.0, (better - worse) / count
    for _ in range(60):
        middle = (low + high) / 2
        if statistic(middle) > z:
            low = middle
        else:
            high = middle
    return low


def _errors(candidate: Array, stable: Array, labels: Array, confidence: float) -> PairedComparison:
    def squared(answers: Array) -> Array:
        flat = (answers.reshape(len(answers), -1) - labels.reshape(len(labels), -1)) ** 2
        return np.asarray(flat.mean(axis=1))

    mine, theirs = squared(candidate), squared(stable)
    differences = theirs - mine
    rng = np.random.default_rng(0)
    means = [differences[rng.integers(0, len(differences), len(differences))].mean() for _ in range(_RESAMPLES)]
    return PairedComparison(
        measure="minus mean squared error",
        examples=len(differences),
        candidate=-float(mine.mean()),
        stable=-float(theirs.mean()),
        difference=float(differences.mean()),
        lower=float(np.quantile(means, 1 - confidence)),
        p_value=None,
    )
