"""A trial of a tuning study as a value, its outcome, and which trial is the best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from saman.configs.schemas.tuning import TuningObjective


class TrialOutcome(str, Enum):
    """The outcome of a trial. Only the first three say something about its values."""

    COMPLETE = "complete"
    PRUNED = "pruned"  # stopped at a checkpoint, worse than others; --continue continues it
    DIVERGED = "diverged"  # its objective is not finite: a bad trial, not a failed one
    FAILED = "failed"  # its program failed
    KILLED = "killed"  # lost more often than retries allow
    CANCELLED = "cancelled"  # by the user
    RUNNING = "running"  # or waiting

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Trial:
    """A trial: a point of the search space and what is known of it.

    Attributes:
        number: From 0, in the order of sampling.
        settings: Values by key.
        outcome: How it ended.
        values: Objectives in the study's order; ``None`` unless complete.
        epochs: The first objective by epoch, as the pruner saw it.
        run: Id of its run; ``None`` before one was made.
        retries: Starts after it was killed or failed.
        pruned_at: The epoch at which the pruner decided against it.
        continues: Number of the pruned trial that this one continues.
        detail: A sentence on its end.
        node_hours: Of all its starts.
    """

    number: int
    settings: Mapping[str, Any]
    outcome: TrialOutcome = TrialOutcome.RUNNING
    values: tuple[float, ...] | None = None
    epochs: Mapping[int, float] = field(default_factory=dict)
    run: str | None = None
    retries: int = 0
    pruned_at: int | None = None
    continues: int | None = None
    resumed: bool = False
    detail: str = ""
    node_hours: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "trial": self.number,
            "outcome": self.outcome.value,
            "settings": dict(self.settings),
            "values": None if self.values is None else list(self.values),
            "epochs": len(self.epochs),
            "run": self.run,
            "retries": self.retries,
            "pruned_at": self.pruned_at,
            "continues": self.continues,
            "detail": self.detail,
            "node_hours": self.node_hours,
        }


def counted(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that count: a pruned trial that another continues counts once, as the other."""
    replaced = {trial.continues for trial in trials if trial.continues is not None}
    return [trial for trial in trials if trial.number not in replaced]


def outcomes(trials: Sequence[Trial]) -> dict[str, int]:
    """Number of trials that count, by outcome."""
    found = Counter(trial.outcome.value for trial in counted(trials))
    return {outcome.value: found[outcome.value] for outcome in TrialOutcome if found[outcome.value]}


def losses(trial: Trial, objectives: Sequence[TuningObjective]) -> tuple[float, ...]:
    """The objectives of a complete trial, turned so that less is better."""
    signs = (-1.0 if each.goal == "maximize" else 1.0 for each in objectives)
    return tuple(sign * value for sign, value in zip(signs, trial.values or (), strict=False))


def pareto_front(trials: Sequence[Trial], objectives: Sequence[TuningObjective]) -> list[Trial]:
    """The complete trials that no other is better than in one objective and at least as good in all."""
    complete = [trial for trial in counted(trials) if trial.values is not None]
    found = {trial.number: losses(trial, objectives) for trial in complete}
    return [trial for trial in complete if not any(_dominates(other, found[trial.number]) for other in found.values())]


def _dominates(left: Sequence[float], right: Sequence[float]) -> bool:
    return all(a <= b for a, b in zip(left, right, strict=True)) and tuple(left) != tuple(right)


def best_trial(trials: Sequence[Trial], objectives: Sequence[TuningObjective]) -> Trial | None:
    """The best complete trial; of several objectives the trial of the Pareto front with the best first objective."""
    front = pareto_front(trials, objectives)
    return min(front, key=lambda trial: (losses(trial, objectives), trial.number), default=None)
