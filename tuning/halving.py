"""Successive halving that also compares a trial with the newest of its rung: the sampler improves while trials run.

Halving alone (Li et al., 2020) lets on the best part of *all* trials that reached a rung. A sampler that learns beats
its early trials again and again, so that most of its late trials are in that part and run to their end. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RecentHalving:
    """The comparison with the newest trials of a rung.

    Attributes:
        first_rung: Epoch of the first decision.
        reduction_factor: A trial goes on from a rung if it is in the best 1/factor of the newest; rungs are at
            ``first_rung * reduction_factor**k``.
        recent: How many of the newest trials it is compared with, itself included.
        maximize: Whether higher values are better.
    """

    first_rung: int
    reduction_factor: int
    recent: int
    maximize: bool = False

    def is_behind(self, number: int, epochs: Mapping[int, Mapping[int, float]]) -> bool:
        """Whether a trial's newest epoch brought it to a rung where it is not among the best of the newest trials.

        Args:
            number: The trial.
            epochs: Values by epoch of every trial, by number.
        """
        own = epochs[number]
        newest, before = max(own), max(sorted(own)[:-1], default=0)
        rung = self.first_rung
        while rung <= newest:
            if rung > before and not self._is_among_the_best(number, epochs, rung):
                return True
            rung *= self.reduction_factor
        return False

    def _is_among_the_best(self, number: int, epochs: Mapping[int, Mapping[int, float]], rung: int) -> bool:
        reached = {each: value for each in sorted(epochs) if (value := self._value_at(epochs[each], rung)) is not None}
        compared = sorted(list(reached.values())[-self.recent :])
        kept = max(1, len(compared) // self.reduction_factor)
        return reached[number] <= compared[kept - 1]

    def _value_at(self, epochs: Mapping[int, float], rung: int) -> float | None:
        """The value with which a trial came to a rung, turned so that less is better; ``None`` if it did not."""
        found = next((epochs[epoch] for epoch in sorted(epochs) if epoch >= rung), None)
        if found is None or math.isnan(found):
            return None if found is None else math.inf
        return -found if self.maximize else found
