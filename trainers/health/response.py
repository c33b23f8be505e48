"""Decides what follows from a failure of the training that all ranks have found: a report, a way back, or the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from saman.configs.schemas.training import Train
from saman.runs.ranks.training_events import NonFinite, RankDivergence, TrainingEvent
from saman.trainers.failures import PeerFailure, TrainingFailure
from saman.trainers.health.judgement import BadGradient, DifferentWeights, Judge
from saman.trainers.strategies.base import Strategy


class RollBack(Exception):  # noqa: N818  (a request to the loop, not an error)
    """The training goes back to the checkpoint before, and skips ``step`` (counted from 1)."""

    def __init__(self, step: int) -> None:
        super().__init__(f"back to before step {step}")
        self.step = step


class Response:
    """Judges windows and checkpoints, records what it finds, and answers as the experiment says."""

    def __init__(
        self, train: Train, strategy: Strategy, variables: tuple[str, ...], record: Callable[[TrainingEvent], None]
    ) -> None:
        """Prepare.

        Args:
            train: The training of the experiment.
            strategy: Combines the ranks.
            variables: The names of the variables with gradients in this process.
            record: Records an event, on the chief.
        """
        self._train, self._strategy, self._variables, self._record = train, strategy, variables, record
        self._judge = Judge(strategy, variables)
        self._bad_steps = self._bad_windows = 0

    def regroup(self, numbers: Sequence[int]) -> None:
        """Judge the ranks of a new world, which ``numbers`` name; what was found so far still counts."""
        self._judge = Judge(self._strategy, self._variables, numbers)

    def add(self, step: int, signs: Any | None) -> None:
        """Add the signs of steps from ``step`` on, counted from 0."""
        self._judge.add(step, signs)

    def close_window(self, skipped: int) -> None:
        """Judge the steps since the last call; all ranks call it together.

        Args:
            skipped: The number of steps that the training skips so far.

        Raises:
            RollBack: The training goes back.
            TrainingFailure: It ends, for a failure of a rank of this process, or of all ranks.
            PeerFailure: It ends, for a failure of another rank.
        """
        bad, different = self._judge.judge()
        if different is not None:
            self._end_different(different)
        if bad is not None:
            self._answer(bad, skipped)

    def before_checkpoint(self, step: int, checksums: np.ndarray | None, bad_weight: str | None) -> None:
        """Judge the weights that a checkpoint is about to hold; all ranks call it together.

        Raises as ``close_window``, but never ``RollBack``.

        Args:
            step: Steps taken so far.
            checksums: Of the ranks here; ``None`` if ranks are not compared.
            bad_weight: The first variable here with a value that is not finite.
        """
        different = self._judge.compare(step, checksums)
        if different is not None:
            self._end_different(different)
        if self._train.on_nonfinite == "report":
            return
        if not self._strategy.total(np.array([float(bad_weight is not None)]))[0]:
            return
        names = self._judge.everyones_names([bad_weight or ""] * len(self._strategy.ranks))
        found = sorted((self._judge.numbers[rank], name) for rank, name in enumerate(names) if name)
        if found:
            ranks, (_, first) = tuple(rank for rank, _ in found), found[0]
            text = f"after step {step}: {first} has values that are not finite, although its gradients are"
            self._record(NonFinite(step, first, ranks, "stop", 1))
            self._end(f"{text}; the learning rate may be too large", ranks)

    def _answer(self, bad: BadGradient, skipped: int) -> None:
        policy = self._train.on_nonfinite
        ranks = tuple(sorted(bad.variables))
        self._bad_steps, self._bad_windows = self._bad_steps + bad.steps, self._bad_windows + 1
        gives_up = policy == "rollback" and skipped >= self._train.most_rollbacks
        action = "stop" if gives_up else policy
        if policy != "report" or self._bad_windows & (self._bad_windows - 1) == 0:  # the 1st, 2nd, 4th, 8th …
            self._record(NonFinite(bad.step, bad.first_variable, ranks, action, self._bad_steps, bad.words))
        if policy == "rollback" and not gives_up:
            raise RollBack(bad.step)
        if policy != "report":
            tried = f", after {skipped} rollbacks (train.most_rollbacks)" if gives_up else ""
            self._end(f"{bad.words}{tried}", ranks)

    def _end_different(self, different: DifferentWeights) -> None:
        self._record(RankDivergence(different.step, different.ranks, different.words))
        self._end(f"{different.words}; no checkpoint was written since they were last equal", different.ranks)

    def _end(self, text: str, ranks: tuple[int, ...]) -> None:
        """End the training on all ranks, so that the first failing rank is one of ``ranks``."""
        if not ranks or set(ranks) & {self._judge.numbers[rank] for rank in self._strategy.ranks}:
            raise TrainingFailure(text)
        raise PeerFailure(text)
