"""Simulates checkpoints and node failures over long runs: the goodput that remains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interruptions:
    """Checkpoints, restarts and node failures of a run; failures are independent and exponential per node."""

    checkpoint_every_steps: int
    checkpoint_seconds: float
    restart_seconds: float
    node_mtbf_hours: float


@dataclass(frozen=True)
class GoodputEstimate:
    """Means over simulated runs.

    Attributes:
        useful: Share of wall time spent on steps that were kept.
        failures: Per run.
        hours: Wall time per run.
    """

    useful: float
    failures: float
    hours: float


def estimate_goodput(
    interruptions: Interruptions, step_seconds: float, nodes: int, steps: int, runs: int = 50, seed: int = 0
) -> GoodputEstimate:
    """Estimate goodput by simulation. A failure loses the steps since the last checkpoint and costs a restart.

    Args:
        interruptions: Checkpoints, restarts and failures.
        step_seconds: Of an undisturbed step.
        nodes: Number of nodes.
        steps: Length of a run.
        runs: Number of simulated runs.
        seed: Of the failures.

    Returns:
        Means over the runs. A run is cut off at 1,000 times its undisturbed length, because a run that fails faster
        than it checkpoints never ends.
    """
    rng = np.random.default_rng(seed)
    mean = interruptions.node_mtbf_hours * 3600 / nodes
    found = [_run(interruptions, step_seconds, steps, mean, rng) for _ in range(runs)]
    wall, failures = (np.mean([run[i] for run in found]) for i in (0, 1))
    done = np.mean([run[2] for run in found])
    return GoodputEstimate(float(done * step_seconds / wall), float(failures), float(wall / 3600))


def _run(
    interruptions: Interruptions, step_seconds: float, steps: int, mean: float, rng: np.random.Generator
) -> tuple[float, int, int]:
    """Wall seconds, failures and kept steps of a run."""
    wall, failures, kept = 0.0, 0, 0
    limit = 1000 * steps * step_seconds
    until_failure = float(rng.exponential(mean))
    while kept < steps and wall < limit:
        block = min(interruptions.checkpoint_every_steps, steps - kept)
        needed = block * step_seconds + interruptions.checkpoint_seconds
        # skip the blocks that end before the next failure
        whole = min(int(until_failure // needed), max(1, (steps - kept) // block))
        if whole >= 1:
            wall += whole * needed
            until_failure -= whole * needed
            kept += whole * block
            continue
        wall += until_failure + interruptions.restart_seconds
        failures += 1
        until_failure = float(rng.exponential(mean))
    return wall, failures, kept
