"""What servers count during a rollout. Counts of several servers add up, and their order does not matter.

Outcomes are compared in blocks of 1 answer of the candidate and ``per_block`` answers of stable, in order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from saman.registry.store.rollouts import MOST_PER_BLOCK

if TYPE_CHECKING:
    from saman.registry.rollout.sequential import Counts, Reals  # imports scipy, which fronts do not need

SCHEMA = 1
CLASSES = 64  # slots of predicted classes; class c counts in slot c mod 64, the same on every server
_LATENCY_RATIO = 1.05  # of neighbouring edges
LATENCY_EDGES: Reals = np.asarray(1e-5 * _LATENCY_RATIO ** np.arange(360), dtype=np.float64)  # 10 µs to about 400 s
_MOST_COUNT = 1 << 48  # the sums of many servers still fit 64 bits
_LATENCY_BUCKETS = len(LATENCY_EDGES) + 1


def block_values(per_block: int) -> Reals:
    """The possible differences of a block, candidate minus mean of stable, in the order of the counts."""
    values: Reals = np.subtract.outer(np.array([0.0, 1.0]), np.arange(per_block + 1) / per_block).ravel()
    return values


@dataclass
class BlockCounts:
    """Blocks by outcome; ``counts[y * (per_block + 1) + k]``: candidate ``y``, ``k`` times 1 for stable."""

    per_block: int
    counts: Counts

    @classmethod
    def empty(cls, per_block: int) -> BlockCounts:
        """No block yet."""
        return cls(per_block, np.zeros(2 * (per_block + 1), dtype=np.int64))

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return int(self.counts.sum())

    def add(self, candidate: bool, stable: int) -> None:
        """Count a block: the candidate's outcome, and the number of outcomes 1 of stable."""
        self.counts[int(candidate) * (self.per_block + 1) + stable] += 1

    def rates(self) -> tuple[float, float]:
        """The mean outcomes of candidate and stable; 0 before the first block."""
        table = self.counts.reshape(2, -1)
        blocks = max(1, self.blocks)
        stable = float((table.sum(axis=0) * np.arange(self.per_block + 1)).sum()) / self.per_block
        return float(table[1].sum()) / blocks, stable / blocks


@dataclass
class Evidence:
    """All counts of a rollout.

    Attributes:
        per_block: Answers of stable in a block.
        requests: Answers of candidate and stable.
        errors: 1 is a failed request.
        losses: 1 is a wrong prediction, where feedback gave the label.
        classes: For each predicted class, 1 is a prediction of it.
        disagreements: Requests that both versions answered: different predictions, and all.
        latencies: Requests by seconds (``LATENCY_EDGES``) of the candidate and of stable.
    """

    per_block: int
    requests: Counts = field(default_factory=lambda: np.zeros(2, dtype=np.int64))
    errors: BlockCounts = field(init=False)
    losses: BlockCounts = field(init=False)
    classes: dict[str, BlockCounts] = field(default_factory=dict)
    predictions: int = 0
    disagreements: Counts = field(default_factory=lambda: np.zeros(2, dtype=np.int64))
    latencies: Counts = field(default_factory=lambda: np.zeros((2, _LATENCY_BUCKETS), dtype=np.int64))

    def __post_init__(self) -> None:
        self.errors = BlockCounts.empty(self.per_block)
        self.losses = BlockCounts.empty(self.per_block)

    def add_predictions(self, candidate: int, stable: Iterable[int]) -> None:
        """Count a block of predicted classes; a new class counts as absent from all earlier blocks."""
        mine, group = str(candidate % CLASSES), [str(other % CLASSES) for other in stable]
        for name in {mine, *group}:
            if name not in self.classes:
                self.classes[name] = _absent(self)
        for name, blocks in self.classes.items():
            blocks.add(name == mine, group.count(name))
        self.predictions += 1

    def add_latency(self, is_candidate: bool, seconds: float) -> None:
        """Count the latency of an answer."""
        self.latencies[0 if is_candidate else 1, int(np.searchsorted(LATENCY_EDGES, seconds, side="left"))] += 1

    def to_json(self) -> dict[str, Any]:
        """The counts as plain values; latencies without their zeros."""
        return {
            "schema": SCHEMA,
            "per_block": self.per_block,
            "requests": self.requests.tolist(),
            "errors": self.errors.counts.tolist(),
            "losses": self.losses.counts.tolist(),
            "classes": {name: blocks.counts.tolist() for name, blocks in self.classes.items()},
            "predictions": self.predictions,
            "disagreements": self.disagreements.tolist(),
            "latencies": [{str(at): int(row[at]) for at in np.flatnonzero(row)} for row in self.latencies],
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evidence:
        """Read what ``to_json`` wrote.

        Raises:
            ValueError: The value is not an ``Evidence`` of this schema.
        """
        try:
            found = cls(_per_block(value["per_block"]))
            found.requests = _counts(value["requests"], (2,))
            found.errors.counts = _counts(value["errors"], found.errors.counts.shape)
            found.losses.counts = _counts(value["losses"], found.losses.counts.shape)
            shape = found.errors.counts.shape
            classes = {str(int(name) % CLASSES): _counts(counts, shape) for name, counts in value["classes"].items()}
            found.classes = {name: BlockCounts(found.per_block, counts) for name, counts in classes.items()}
            found.predictions = int(value["predictions"])
            found.disagreements = _counts(value["disagreements"], (2,))
            for row, written in zip(found.latencies, value["latencies"], strict=True):
                for at, number in written.items():
                    row[int(at)] = int(number)
            _counts(found.latencies, found.latencies.shape)
        except (KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
            raise ValueError(f"not the evidence of a rollout: {error}") from error
        return found

    @classmethod
    def merged(cls, parts: Iterable[Evidence], per_block: int) -> Evidence:
        """The sum of the evidence of several servers; parts with other blocks are left out."""
        total = cls(per_block)
        for part in parts:
            if part.per_block == per_block:
                total._add(part)
        return total

    def _add(self, part: Evidence) -> None:
        self.requests = self.requests + part.requests
        self.errors.counts = self.errors.counts + part.errors.counts
        self.losses.counts = self.losses.counts + part.losses.counts
        self.disagreements = self.disagreements + part.disagreements
        self.latencies = self.latencies + part.latencies
        for name in {*self.classes, *part.classes}:
            mine = self.classes.get(name) or _absent(self)
            theirs = part.classes.get(name) or _absent(part)
            self.classes[name] = BlockCounts(self.per_block, mine.counts + theirs.counts)
        self.predictions += part.predictions


def _absent(evidence: Evidence) -> BlockCounts:
    """The blocks of a class that no answer predicted."""
    blocks = BlockCounts.empty(evidence.per_block)
    blocks.counts[0] = evidence.predictions
    return blocks


def _per_block(value: Any) -> int:
    if not 1 <= int(value) <= MOST_PER_BLOCK:
        raise ValueError(f"not the evidence of a rollout: {value!r} answers of stable in a block")
    return int(value)


def _counts(value: Any, shape: tuple[int, ...]) -> Counts:
    counts = np.asarray(value, dtype=np.int64)
    if counts.shape != shape or (counts < 0).any() or (counts > _MOST_COUNT).any():
        raise ValueError("not the evidence of a rollout: counts of the wrong form")
    return counts
