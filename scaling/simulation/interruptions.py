"""What checkpoints and node failures leave of a long run: simulated event by event over many runs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interruptions:
    """Pauses of a run in seconds; failures come independently per node with ``node_mtbf_hours`` between them."""

    checkpoint_every_steps: int
    checkpoint_seconds: float
    restart_seconds: float
    node_mtbf_hours: float


@dataclass(frozen=True)
class GoodputEstimate:
    """Share of wall time spent on steps that were kept, failures per run, and hours per run (means over runs)."""

    useful: float
    failures: float
    hours: float


def survive(
    what: Interruptions, step_seconds: float, nodes: int, steps: int, runs: int = 50, seed: int = 0
) -> GoodputEstimate:
    """Simulates ``runs`` runs of ``steps`` steps: a failure loses the steps since the last checkpoint and a restart.

    A run that fails faster than it checkpoints never ends; it is cut off at 1,000 times its undisturbed length.
    """
    rng = np.random.default_rng(seed)
    mean = what.node_mtbf_hours * 3600 / nodes
    found = [_run(what, step_seconds, steps, mean, rng) for _ in range(runs)]
    wall, failures = (np.mean([run[i] for run in found]) for i in (0, 1))
    done = np.mean([run[2] for run in found])
    return GoodputEstimate(float(done * step_seconds / wall), float(failures), float(wall / 3600))


def _run(
    what: Interruptions, step_seconds: float, steps: int, mean: float, rng: np.random.Generator
) -> tuple[float, int, int]:
    """Wall seconds, failures and kept steps of one run."""
    wall, failures, kept = 0.0, 0, 0
    limit = 1000 * steps * step_seconds
    until_failure = float(rng.exponential(mean))
    while kept < steps and wall < limit:
        block = min(what.checkpoint_every_steps, steps - kept)
        needed = block * step_seconds + what.checkpoint_seconds
        # blocks that end before the next failure are passed over at once
        whole = min(int(until_failure // needed), max(1, (steps - kept) // block))
        if whole >= 1:
            wall += whole * needed
            until_failure -= whole * needed
            kept += whole * block
            continue
        wall += until_failure + what.restart_seconds
        failures += 1
        until_failure = float(rng.exponential(mean))
    return wall, failures, kept
