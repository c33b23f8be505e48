"""Which settings ``saman autotune`` tries: eight combinations that cover four levels and four pairs evenly. Pure.

The mixed array L8(4¹ × 2⁴) (Taguchi and Konishi, 1987): every level of a factor meets every level of another equally
often, so that eight runs estimate each factor from all of them. Threads and binding, which act together, share the
factor with four levels. The full grid of the same factors has 32 points.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saman.configs.schemas.experiment import Experiment
from saman.configs.units import parse_size

Point = tuple[int, ...]  # a level of each factor; zeros are the experiment as it is

# rows: threads and binding, then three factors with two levels
_ARRAY = tuple(
    (2 * a + b, c, a ^ c, a ^ b ^ c) for a, b, c in itertools.product((0, 1), repeat=3)
)  # fmt: skip


@dataclass(frozen=True)
class FactorLevel:
    """A level of a factor: its name, and the changes of the experiment by key."""

    name: str
    changes: Mapping[str, Any]


@dataclass(frozen=True)
class MachineFactor:
    """Settings that are chosen together. Level 0 is the experiment as it is."""

    name: str
    levels: tuple[FactorLevel, ...]


def factors_of(experiment: Experiment, cores_per_rank: int) -> tuple[MachineFactor, ...]:
    """The factors that act on an experiment.

    Args:
        experiment: The experiment. Without Horovod only threads and binding act.
        cores_per_rank: Cores of each rank, by its placement.
    """
    found = [_threads_and_binding(experiment, cores_per_rank)]
    if experiment.uses_horovod and experiment.resources.ranks > 1:
        engine = experiment.launch.horovod
        found.append(_pair("cycle time", "launch.horovod.cycle_time_ms", engine.cycle_time_ms, 0.2, 1.0, "ms"))
        if experiment.train.strategy == "horovod":
            found.append(_sizes("bucket", "train.exchange.bucket", experiment.train.exchange.bucket, "4M", "32M"))
        found.append(_sizes("fusion", "launch.horovod.fusion_threshold", engine.fusion_threshold, "8M", "128M"))
    return tuple(found)


def _threads_and_binding(experiment: Experiment, cores_per_rank: int) -> MachineFactor:
    resources = experiment.resources
    binding = "none" if resources.binding == "cores" else "cores"
    before = cores_per_rank if resources.threads_per_rank == "auto" else resources.threads_per_rank
    after = 2 * cores_per_rank if before != 2 * cores_per_rank else cores_per_rank
    threads, bound = {"resources.threads_per_rank": after}, {"resources.binding": binding}
    words = f"{after} {'threads' if after > 1 else 'thread'} per rank"
    free = "ranks not bound" if binding == "none" else "ranks bound to cores"
    return MachineFactor(
        "threads and binding",
        (
            FactorLevel("as it is", {}),
            FactorLevel(words, threads),
            FactorLevel(free, bound),
            FactorLevel(f"{words}, {free}", threads | bound),
        ),
    )


def _pair(name: str, key: str, now: float | None, value: float, default: float, unit: str) -> MachineFactor:
    other = default if now is not None and now == value else value
    return MachineFactor(name, (FactorLevel("as it is", {}), FactorLevel(f"{other:g} {unit}", {key: other})))


def _sizes(name: str, key: str, now: str | None, value: str, default: str) -> MachineFactor:
    other = default if now is not None and parse_size(now) == parse_size(value) else value
    return MachineFactor(name, (FactorLevel("as it is", {}), FactorLevel(other, {key: other})))


def designed(factors: Sequence[MachineFactor]) -> tuple[Point, ...]:
    """The eight points of the design; the first is the experiment as it is. Fewer factors repeat points.

    >>> levels = tuple(FactorLevel(str(number), {}) for number in range(4))
    >>> designed([MachineFactor("f", levels)])
    ((0,), (0,), (1,), (1,), (2,), (2,), (3,), (3,))
    """
    return tuple(row[: len(factors)] for row in _ARRAY)


def full_grid(factors: Sequence[MachineFactor]) -> tuple[Point, ...]:
    """Every combination."""
    return tuple(itertools.product(*(range(len(factor.levels)) for factor in factors)))


def changes_at(factors: Sequence[MachineFactor], point: Point) -> dict[str, Any]:
    """The changes of the experiment at a point of the design, by key."""
    chosen = (factor.levels[level].changes for factor, level in zip(factors, point, strict=True))
    return {key: value for changes in chosen for key, value in changes.items()}
