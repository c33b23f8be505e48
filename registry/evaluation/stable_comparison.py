"""Compares a candidate with the stable version on the candidate's validation sample."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.schemas.policy import Compare
from saman.registry.evaluation.paired_comparison import Array, PairedComparison, compare


@dataclass(frozen=True)
class TrainingOverlap:
    """Examples of the candidate's sample in the stable model's training data; ``None`` where that is unknown."""

    examples: int | None
    of: int | None = None

    @property
    def text(self) -> str:
        """The overlap in words; empty without overlap."""
        if self.examples is None:
            return "the overlap with the training data of stable is not known"
        if not self.examples:
            return ""
        return f"stable was trained on {self.examples} of these {self.of} examples, which favours it"

    def to_json(self) -> dict[str, Any]:
        """The overlap as plain values."""
        known = {} if self.of is None else {"of": self.of}
        return {"examples": self.examples, **known, "text": self.text}


@dataclass(frozen=True)
class StableComparison:
    """The paired comparison with stable version ``number`` under the policy ``wanted``."""

    wanted: Compare
    found: PairedComparison
    overlap: TrainingOverlap
    number: int

    @property
    def within_tolerance(self) -> bool:
        """Whether the candidate is not worse than stable by more than the tolerance, at the policy's confidence."""
        return self.found.lower >= -self.wanted.tolerance

    @property
    def text(self) -> str:
        """The comparison in words."""
        found, wanted = self.found, self.wanted
        values = f"{found.measure} {found.candidate:.4g} against {found.stable:.4g} of stable version {self.number}"
        test = f", McNemar p = {found.p_value:.2g}" if found.p_value is not None else ""
        bound = f"at {wanted.confidence:.0%} confidence no more than {max(0.0, -found.lower):.4g} worse"
        text = f"{values} on {found.examples} examples{test}; {bound}, allowed is {wanted.tolerance:g}"
        return f"{text}; {self.overlap.text}" if self.overlap.text else text

    def to_json(self) -> dict[str, Any]:
        """The comparison as manifests and the audit log record it."""
        return {**asdict(self.found), "stable_version": self.number, "overlap": self.overlap.to_json()}


def compare_with_stable(
    wanted: Compare, candidate: Array, stable: Array, candidate_sample: Path, stable_sample: Path, number: int
) -> StableComparison:
    """Compare the answers of candidate and stable.

    Args:
        wanted: Tolerance and confidence.
        candidate: The candidate's answers to its sample.
        stable: The stable version's answers to the same sample.
        candidate_sample: The candidate's ``validation.npz``.
        stable_sample: The stable version's ``validation.npz``, which lists its training examples.
        number: The stable version.

    Raises:
        ValueError: The shapes of the answers differ.
    """
    with np.load(candidate_sample, allow_pickle=False) as stored:
        labels = stored["labels"]
    found = compare(candidate, stable, labels, wanted.confidence)
    return StableComparison(wanted, found, measure_overlap(candidate_sample, stable_sample), number)


def measure_overlap(candidate: Path, stable: Path) -> TrainingOverlap:
    """Count the examples of the candidate's sample in the stable model's training data, by content."""
    try:
        with np.load(candidate, allow_pickle=False) as mine, np.load(stable, allow_pickle=False) as theirs:
            ids, trained = mine["ids"], theirs["training_ids"]
    except (OSError, KeyError, ValueError):
        return TrainingOverlap(None)
    return TrainingOverlap(int(np.isin(ids, trained).sum()), len(ids))
