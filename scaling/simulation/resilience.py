"""Goodput under failures, with the restart and checkpoint costs that runs measured, and the best checkpoint interval.

J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", FGCS 22 (2006): equation 20
for the wall time under exponential failures, which may also hit a restart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, exp, expm1
from statistics import median

from saman.runs.checkpoints.interval import best_interval, checkpoint_cost
from saman.runs.folder import RunFolder
from saman.runs.ranks.training_events import CheckpointSave
from saman.runs.telemetry.goodput import Goodput

_MOST = 700.0  # the largest exponent of a float


@dataclass(frozen=True)
class MeasuredCosts:
    """What failures and checkpoints cost in measured runs, in seconds; medians over runs.

    Attributes:
        checkpoint: Training time that a checkpoint costs.
        write: From the snapshot until a checkpoint is on disk.
        restart: From a failure until the next step. Of runs without a failure, from the start to the first step.
        failures: Failures behind ``restart``; 0 if no run had one.
        runs: Number of runs.
    """

    checkpoint: float
    write: float
    restart: float
    failures: int
    runs: int


@dataclass(frozen=True)
class Resilience:
    """The forecast for a number of ranks.

    Attributes:
        ranks: Ranks.
        nodes: Nodes.
        mtbf_seconds: Mean time between failures of the run: that of a node ÷ nodes.
        interval_seconds: The interval between checkpoints that loses least.
        goodput: Expected share of wall time, with that interval.
    """

    ranks: int
    nodes: int
    mtbf_seconds: float
    interval_seconds: float
    goodput: float


def measure_costs(runs: Iterable[RunFolder]) -> MeasuredCosts | None:
    """Measure the costs of checkpoints and restarts; ``None`` if no run recorded both."""
    checkpoints: list[tuple[float, float]] = []
    restarts: list[tuple[float, int]] = []
    for run in runs:
        saved = [each for event in run.events() if (each := CheckpointSave.from_event(event)) is not None]
        costs = [(each.waited_seconds, each.seconds) for each in saved if each.waited_seconds is not None]
        summary = run.summary()
        goodput = Goodput.from_json(summary.more.get("goodput")) if summary is not None else None
        if not costs or goodput is None:
            continue
        checkpoints.append((median(waited for waited, _ in costs), median(seconds or 0.0 for _, seconds in costs)))
        restarts.append(_restart_cost(goodput))
    if not checkpoints:
        return None
    failed = [(seconds, count) for seconds, count in restarts if count] or restarts
    waited, write = (median(values) for values in zip(*checkpoints, strict=True))
    restart = median(seconds for seconds, _ in failed)
    failures = sum(count for _, count in failed)
    return MeasuredCosts(checkpoint_cost(waited, write), write, restart, failures, len(checkpoints))


def _restart_cost(goodput: Goodput) -> tuple[float, int]:
    if not goodput.failures:
        return goodput.start_seconds, 0
    return (goodput.restart_seconds + goodput.waiting_seconds) / goodput.failures, goodput.failures


def forecast_resilience(
    costs: MeasuredCosts, node_mtbf_seconds: float, ranks: Sequence[int], ranks_per_node: int
) -> tuple[Resilience, ...]:
    """Forecast the goodput at each number of ranks, with the best checkpoint interval.

    Args:
        costs: Measured costs.
        node_mtbf_seconds: Mean time between failures of a node.
        ranks: Numbers of ranks.
        ranks_per_node: As in the measured runs.
    """
    found = []
    for count in ranks:
        nodes = ceil(count / ranks_per_node)
        mtbf = node_mtbf_seconds / nodes
        interval = best_interval(costs.checkpoint, mtbf, costs.write)
        share = expected_goodput(interval, costs.checkpoint, costs.restart, mtbf)
        found.append(Resilience(count, nodes, mtbf, interval, share))
    return tuple(found)


def expected_goodput(interval: float, checkpoint: float, restart: float, mtbf: float) -> float:
    """The share of wall time kept despite failures: interval ÷ (M e^(R/M) (e^((interval + checkpoint)/M) − 1)).

    >>> round(expected_goodput(600.0, 5.0, 60.0, 86400.0), 3)
    0.988
    """
    if restart / mtbf > _MOST or (interval + checkpoint) / mtbf > _MOST:
        return 0.0
    return interval / (mtbf * exp(restart / mtbf) * expm1((interval + checkpoint) / mtbf))
