"""Compares finished runs: throughput over windows, metrics, and whether their weights agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from saman.configs.errors import UserError
from saman.runs.checkpoints import newest_sound
from saman.runs.folder import RunFolder
from saman.runs.telemetry.throughput import Throughput, chief_throughput
from saman.runs.telemetry.window import read_windows

if TYPE_CHECKING:
    import numpy as np

# Strategies sum in different orders: about 1e-7 per step in float32, grown over a whole training.
SAME_WEIGHTS = 1e-3


@dataclass(frozen=True)
class ComparedRun:
    """One run: its throughput over steady windows, and its final metrics."""

    run: str
    strategy: str
    ranks: int
    throughput: Throughput | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side; ``weight_difference`` is the largest ‖w − w₀‖₂ ÷ ‖w₀‖₂ over tensors, and its tensor."""

    rows: tuple[ComparedRun, ...]
    weight_difference: tuple[float, str]

    @property
    def same_weights(self) -> bool:
        """Whether every run ended with the weights of the first."""
        return self.weight_difference[0] <= SAME_WEIGHTS


def compare_runs(runs: Sequence[RunFolder]) -> Comparison:
    """Compare run folders with the first of them.

    Raises:
        UserError: A run left no intact checkpoint, or its model differs from the first run's.
    """
    reference, *others = runs
    differences = [_difference(reference, other) for other in others]
    return Comparison(tuple(map(_row, runs)), max(differences, default=(0.0, "")))


def _row(run: RunFolder) -> ComparedRun:
    experiment, summary = run.experiment(), run.summary()
    return ComparedRun(
        run=run.id,
        strategy=experiment.train.strategy,
        ranks=experiment.resources.ranks,
        throughput=chief_throughput(read_windows(run, 0)[0]),
        metrics=summary.metrics if summary else {},
    )


def _difference(reference: RunFolder, other: RunFolder) -> tuple[float, str]:
    import numpy as np

    first, second = _weights(reference), _weights(other)
    if first.keys() != second.keys():
        raise UserError("the models of these runs differ", where=f"{reference.id} and {other.id}")
    found = []
    for name, weights in first.items():
        difference = np.linalg.norm(second[name] - weights) / max(float(np.linalg.norm(weights)), 1e-12)
        found.append((float(difference), name.rpartition("/")[2]))
    return max(found)


def _weights(run: RunFolder) -> dict[str, np.ndarray]:
    for checkpoint, problem in newest_sound(run.checkpoints):
        if problem is None:
            arrays = checkpoint.read()[1]
            return {name: array for name, array in arrays.items() if name.startswith("weight/")}
    raise UserError("this run has no intact checkpoint", where=str(run.checkpoints))
