"""Judges the signs of the steps of a telemetry window; all ranks judge together and alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from saman.trainers.health.signs import COMPARED, DIFFERS, FLAG, HIGH
from saman.trainers.strategies.base import Strategy

NAME_BYTES = 96  # of a variable's name that ranks tell each other


@dataclass(frozen=True)
class BadGradient:
    """The first step of a window with a gradient that is not finite.

    Attributes:
        step: The number of the step, counted from 1.
        variables: The first variable with such a gradient, by rank.
        steps: The number of such steps in the window.
    """

    step: int
    variables: dict[int, str]
    steps: int

    @property
    def first_variable(self) -> str:
        """The judged variable of the lowest rank; empty if only the sum over all ranks is not finite."""
        return self.variables[min(self.variables)] if self.variables else ""

    @property
    def words(self) -> str:
        """The judgement in words.

        >>> BadGradient(31, {2: "dense/kernel"}, 1).words
        'step 31: the gradient of dense/kernel is not finite on rank 2'
        """
        by_variable: dict[str, list[int]] = {}
        for rank, name in sorted(self.variables.items()):
            by_variable.setdefault(name, []).append(rank)
        named = by_variable.items()
        parts = [f"the gradient of {name} is not finite on {ranks_in_words(ranks)}" for name, ranks in named]
        return f"step {self.step}: {'; '.join(parts) or 'the sum of all gradients is not finite'}"


@dataclass(frozen=True)
class DifferentWeights:
    """Ranks whose weights differ after ``step`` steps; without a majority all ranks are listed."""

    step: int
    ranks: tuple[int, ...]
    size: int

    @property
    def words(self) -> str:
        """The finding in words.

        >>> DifferentWeights(100, (3,), 4).words
        'after step 100: the weights of rank 3 differ from those of the other ranks'
        """
        if len(self.ranks) == self.size:
            return f"after step {self.step}: the weights of {ranks_in_words(self.ranks)} differ"
        named = ranks_in_words(self.ranks)
        return f"after step {self.step}: the weights of {named} differ from those of the other ranks"


def ranks_in_words(ranks: Sequence[int]) -> str:
    """Name a few ranks of a judgement on health, and count the rest.

    >>> ranks_in_words([3]), ranks_in_words(range(12))
    ('rank 3', 'ranks 0, 1, 2, 3, 4, 5, 6, 7 and 4 more')
    """
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    named, more = list(ranks)[:8], len(ranks) - 8
    return f"ranks {', '.join(map(str, named))}" + (f" and {more} more" if more > 0 else "")


class Judge:
    """Collects the signs of steps, and judges those since the last judgement."""

    def __init__(self, strategy: Strategy, variables: Sequence[str], numbers: Sequence[int] | None = None) -> None:
        """Prepare to judge.

        Args:
            strategy: Combines the ranks where something is wrong.
            variables: The names of the variables of this process, in the order of the gradients.
            numbers: The number by which each rank is named, in an elastic run that of its slot; by default the rank.
        """
        self._strategy, self._variables = strategy, variables
        self.numbers = tuple(range(strategy.size) if numbers is None else numbers)
        self._signs: list[tuple[int, Any]] = []

    def add(self, step: int, signs: Any | None) -> None:
        """Add the signs of steps; they may be tensors that are still being computed.

        Args:
            step: The number of the first step, counted from 0.
            signs: As in ``StepTotals``.
        """
        if signs is not None:
            self._signs.append((step, signs))

    def judge(self) -> tuple[BadGradient | None, DifferentWeights | None]:
        """Judge the signs since the last call; if something is wrong, all ranks exchange what each knows of it."""
        pending, self._signs = self._signs, []
        if not pending:
            return None, None
        rows = np.concatenate([np.asarray(signs) for _, signs in pending])
        steps = np.concatenate([first + np.arange(len(np.asarray(signs))) for first, signs in pending])
        return self._bad_gradient(steps, rows), self._difference(steps, rows)

    def compare(self, step: int, checksums: np.ndarray | None) -> DifferentWeights | None:
        """Compare the checksums of all ranks after ``step`` steps; ``None`` if they are equal."""
        if checksums is None or self._strategy.size == 1:
            return None
        everyones = self._everyones(checksums)
        return self._odd_ranks(step, everyones)

    def everyones_names(self, names: Sequence[str]) -> list[str]:
        """Return a name for each rank of the run, from a name for each rank here; all ranks call it together."""
        return [_decoded(row) for row in self._everyones(np.stack([_encoded(name) for name in names]))]

    def _bad_gradient(self, steps: np.ndarray, rows: np.ndarray) -> BadGradient | None:
        sums = rows[:, :, self._leading(rows) :]
        told = rows[:, :, [FLAG]] if self._leading(rows) else sums
        bad = np.flatnonzero(~np.isfinite(told).all(axis=(1, 2)))
        if not len(bad):
            return None
        names = [self._name_of_first(own) for own in ~np.isfinite(sums[bad[0]])]
        variables = {self.numbers[rank]: name for rank, name in enumerate(self.everyones_names(names)) if name}
        return BadGradient(int(steps[bad[0]]) + 1, variables, len(bad))

    def _difference(self, steps: np.ndarray, rows: np.ndarray) -> DifferentWeights | None:
        if self._leading(rows) < COMPARED:
            return None
        different = np.flatnonzero(rows[:, 0, DIFFERS] > 0)
        if not len(different):
            return None
        first = different[0]
        return self._odd_ranks(int(steps[first]), self._everyones(rows[first, :, HIGH:COMPARED]))

    def _odd_ranks(self, step: int, checksums: np.ndarray) -> DifferentWeights | None:
        """The ranks that differ from the majority; all ranks if there is no majority."""
        values = [tuple(row) for row in checksums.tolist()]
        (usual, count), *others = Counter(values).most_common()
        if not others:
            return None
        majority = 2 * count > len(values)
        odd = (self.numbers[rank] for rank, value in enumerate(values) if not majority or value != usual)
        return DifferentWeights(step, tuple(sorted(odd)), len(values))

    def _leading(self, rows: np.ndarray) -> int:
        """The number of columns before the sums of the gradients."""
        return int(rows.shape[2]) - len(self._variables)

    def _name_of_first(self, bad: np.ndarray) -> str:
        return self._variables[int(np.argmax(bad))] if bad.any() else ""

    def _everyones(self, own: np.ndarray) -> np.ndarray:
        """Return the rows of all ranks, float64[ranks, n], from those of the ranks here."""
        table = np.zeros((self._strategy.size, own.shape[1]))
        table[list(self._strategy.ranks)] = own
        return np.reshape(self._strategy.total(table.reshape(-1)), table.shape)


def _encoded(name: str) -> np.ndarray:
    """The end of a name as numbers, which ranks can sum."""
    text = np.frombuffer(name.encode()[-NAME_BYTES:], np.uint8)
    return np.pad(text, (0, NAME_BYTES - len(text))).astype(float)


def _decoded(values: np.ndarray) -> str:
    return bytes(values.astype(np.uint8)).rstrip(b"\0").decode(errors="replace")
