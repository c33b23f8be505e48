"""What bounds a run: the largest loss with its evidence, what to change, the gain to expect and the gain found.

The losses are shares of wall time. A run is bound by the largest of them, or by its own compute where no loss takes a
tenth of the time: below, removing it would gain less than runs differ among themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from saman.runs.telemetry.slow_spans import SlowSpan, seconds_lost, slow_spans
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.points import CurvePoint
from saman.scaling.analysis.review import UNEVEN_SHARE
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.statistics.bootstrap import ratio_estimate
from saman.scaling.statistics.intervals import Estimate
from saman.scaling.statistics.rank_test import RankTest, adjust, rank_test

LEAST_LOSS = 0.1


class Bound(Enum):
    """What bounds a run. The values are stable: they are written to tables."""

    INPUT = "input"
    COMPUTE = "own compute"
    EXCHANGE_LATENCY = "latency of the exchange"
    EXCHANGE_BANDWIDTH = "bandwidth of the exchange"
    EXCHANGE = "exchange"
    STRAGGLERS = "stragglers"
    STAGES = "stages that wait for each other"
    OUTSIDE_STEPS = "checkpoints and validation"
    SHARED_CORES = "shared cores"
    MEMORY = "memory bandwidth"


@dataclass(frozen=True)
class Remedy:
    """What to change against a bound.

    Attributes:
        change: In words.
        settings: Beginnings of the settings that make the change; ``batch`` for the batch size.
        removes: The part of the loss that the change removes at most.
    """

    change: str
    settings: tuple[str, ...]
    removes: float = 1.0


REMEDIES = {
    Bound.INPUT: Remedy("prepare batches ahead, cache the data, or give the input more cores", ("data.",)),
    Bound.COMPUTE: Remedy("add ranks, or compute in lower precision", ("train.precision",), 0.0),
    Bound.EXCHANGE_LATENCY: Remedy("double the batch per rank: half as many exchanges per sample", ("batch",), 0.5),
    Bound.EXCHANGE_BANDWIDTH: Remedy(
        "exchange in half precision, or double the batch per rank", ("train.precision", "batch"), 0.5
    ),
    Bound.EXCHANGE: Remedy("double the batch per rank: half as many exchanges per sample", ("batch",), 0.5),
    Bound.STRAGGLERS: Remedy("leave the slow node out", ("resources.",)),
    Bound.STAGES: Remedy(
        "more micro-batches, or cuts that even out the stages", ("train.micro_batches", "train.pipeline")
    ),
    Bound.OUTSIDE_STEPS: Remedy(
        "validate and save half as often", ("train.checkpoint", "train.validate"), 0.5
    ),
    Bound.MEMORY: Remedy("fewer ranks per node, or compute in lower precision", ("resources.", "train.precision")),
    Bound.SHARED_CORES: Remedy("no more ranks per node than its cores carry", ("resources.",)),
}  # fmt: skip


@dataclass(frozen=True)
class Loss:
    """A part of wall time that a change could remove, with its evidence in words."""

    bound: Bound
    share: float
    evidence: str


@dataclass(frozen=True)
class GainFound:
    """Throughput of the series in which a study tried the change ÷ that of the bound series."""

    series: str
    ratio: Estimate
    verdict: str


@dataclass(frozen=True)
class BoundVerdict:
    """What bounds a series at its largest rank count.

    Attributes:
        evidence: Of the bound, with the next largest loss.
        expected_gain: At most: 1 ÷ (1 − the removable share of wall time); None where the remedy removes no loss.
        found: The gain where a series of the same study differs in the changed settings alone.
    """

    series: str
    ranks: int
    bound: Bound
    share: float
    evidence: str
    change: str
    expected_gain: float | None
    found: GainFound | None


def find_bounds(curves: Sequence[Curve]) -> list[BoundVerdict]:
    """A verdict per curve, at its largest rank count."""
    return [_verdict(curve, curves) for curve in curves if curve.points]


def losses_of(curve: Curve, point: CurvePoint) -> list[Loss]:
    """The losses at a point, largest first, then the rest: own compute."""
    split, steps = point.breakdown, _share_in_steps(point)
    whole = split.seconds / steps if steps else split.seconds
    turns = _taking_turns(point)  # ranks take turns at everything that needs a core, exchange and messages too
    own_turn = 1 - turns
    straggling = _wait_for_stragglers(point) * own_turn
    taking_turns = turns * (split.compute + (split.exchange or 0.0) + split.neighbours)
    found = [
        Loss(Bound.INPUT, split.input_wait / whole, f"input wait {_ms(split.input_wait)} of a step"),
        _exchange_loss(curve, point, own_turn * (split.exchange or 0.0) - straggling, whole),
        Loss(Bound.STRAGGLERS, straggling / whole, _straggler_words(point, straggling)),
        Loss(
            Bound.STAGES, own_turn * split.neighbours / whole, f"stages wait {_ms(own_turn * split.neighbours)} a step"
        ),
        Loss(Bound.OUTSIDE_STEPS, 1 - steps, "between steps: validation, checkpoints, tracing"),
        Loss(Bound.SHARED_CORES, taking_turns / whole, _turn_words(point)),
        _memory_loss(curve, point, own_turn * split.compute, whole),
    ]
    found = sorted((loss for loss in found if loss.share > 0), key=lambda loss: -loss.share)
    own = max(0.0, 1 - sum(loss.share for loss in found))
    return [*found, Loss(Bound.COMPUTE, own, f"own compute {_ms(own_turn * split.compute)} of a step")]


def _verdict(curve: Curve, curves: Sequence[Curve]) -> BoundVerdict:
    point = curve.points[-1]
    *losses, own = losses_of(curve, point)
    first = losses[0] if losses and losses[0].share >= LEAST_LOSS else own
    rest = next((loss for loss in losses if loss is not first), None)
    following = f"; next: {rest.bound.value}, {rest.share:.0%}" if rest else ""
    caveats = "; exchange was not measured and counts as compute" if point.breakdown.exchange is None else ""
    if any(abs(run.measured.throughput.excess_of_median) > UNEVEN_SHARE for run in point.runs):
        caveats += "; windows are uneven, and what stalled them is part of these shares"
    remedy = REMEDIES[first.bound]
    removed = first.share * remedy.removes
    return BoundVerdict(
        series=curve.label,
        ranks=point.ranks,
        bound=first.bound,
        share=first.share,
        evidence=f"{first.share:.0%} of wall time: {first.evidence}{following}{caveats}",
        change=remedy.change,
        expected_gain=1 / (1 - removed) if 0 < removed < 1 else None,
        found=_gain_found(curve, point, remedy, curves),
    )


def _share_in_steps(point: CurvePoint) -> float:
    """The share of wall time, from the first window to the last, in windows of steps; 1 where clocks are missing."""
    known = [(run.measured.seconds_in_windows, run.measured.duration_seconds) for run in point.runs]
    shares = [seconds / duration for seconds, duration in known if duration]
    return min(1.0, float(np.median(shares))) if shares else 1.0


def _memory_loss(curve: Curve, point: CurvePoint, compute: float, whole: float) -> Loss:
    """The part of own compute that waits for memory because other ranks of the node use it too."""
    contention, traffic = curve.contention, curve.memory_traffic
    if contention is None or traffic is None or point.ranks_per_node < contention.many:
        return Loss(Bound.MEMORY, 0.0, "ranks do not compete for memory bandwidth")
    waiting = compute * (1 - 1 / (1 + contention.growth))
    text = (
        f"memory bandwidth per core is {traffic.fall:.0%} lower with {contention.many} ranks on a node than with "
        f"{contention.few}, and a sample costs {contention.growth:.0%} more CPU time"
    )
    return Loss(Bound.MEMORY, waiting / whole, text)


def _exchange_loss(curve: Curve, point: CurvePoint, seconds: float, whole: float) -> Loss:
    """The exchange without the wait for stragglers, which is part of every other rank's exchange."""
    seconds = max(0.0, seconds)
    latency = _latency_share(curve, point)
    if latency is None:
        text = "a single count does not tell latency from bandwidth"
        return Loss(Bound.EXCHANGE, seconds / whole, f"exposed exchange {_ms(seconds)} of a step; {text}")
    bound = Bound.EXCHANGE_LATENCY if latency > 0.5 else Bound.EXCHANGE_BANDWIDTH
    text = f"{latency:.0%} of it grows with the ranks as latency does, {1 - latency:.0%} as bandwidth does"
    return Loss(bound, seconds / whole, f"exposed exchange {_ms(seconds)} of a step; {text}")


def _latency_share(curve: Curve, point: CurvePoint) -> float | None:
    """The part of a point's exchange that goes with 2(n − 1) hops; the rest goes with 2(n − 1)/n of the bytes."""
    known = [(p.ranks, p.breakdown.exchange) for p in curve.points if p.ranks > 1 and p.breakdown.exchange is not None]
    if len({ranks for ranks, _ in known}) < 2:
        return None
    from scipy.optimize import nnls

    ranks = np.array([count for count, _ in known], float)
    matrix = np.stack([2 * (ranks - 1), 2 * (ranks - 1) / ranks], axis=1)
    (per_hop, per_byte), _ = nnls(matrix, np.array([seconds for _, seconds in known]))
    hops, moved = 2 * (point.ranks - 1) * per_hop, 2 * (point.ranks - 1) / point.ranks * per_byte
    return float(hops / (hops + moved)) if hops + moved > 0 else None


def _wait_for_stragglers(point: CurvePoint) -> float:
    """Seconds of a step that the other ranks wait for the slowest straggler, over the run or a part of it."""
    if point.breakdown.exchange is None:
        return 0.0
    in_parts = float(np.median([seconds_lost(_slow_spans(run)) for run in point.runs]))
    if in_parts or not point.stragglers:
        return in_parts
    busy = [process.busy_seconds for run in point.runs for process in run.measured.processes]
    return float(np.median(busy)) * point.stragglers[0].slower


def _slow_spans(run: MeasuredRun) -> list[SlowSpan]:
    return slow_spans(run.measured.processes, run.measured.node_of)


def _straggler_words(point: CurvePoint, seconds: float) -> str:
    if not point.stragglers:
        found = [slow for run in point.runs for slow in _slow_spans(run)]
        named = max(found, key=lambda slow: sum(slow.lost), default=None)
        return f"{named.words}, {_ms(seconds)} a step over the run" if named else "no straggler"
    slowest = point.stragglers[0]
    return (
        f"rank {slowest.rank} on {slowest.node} works {slowest.slower:.0%} longer than its peers, {_ms(seconds)} a step"
    )


def _taking_turns(point: CurvePoint) -> float:
    """The share of compute that is waiting for a turn on a core: 1 − cores ÷ cores wanted."""
    facts = point.runs[0].facts
    if not facts.cores_shared or not facts.node_cores or not facts.cores_per_rank:
        return 0.0
    wanted = -(-point.ranks // point.nodes) * facts.cores_per_rank
    return max(0.0, 1 - facts.node_cores / wanted)


def _turn_words(point: CurvePoint) -> str:
    facts = point.runs[0].facts
    return f"{-(-point.ranks // point.nodes)} ranks per node × {facts.cores_per_rank} cores on {facts.node_cores} cores"


def _gain_found(curve: Curve, point: CurvePoint, remedy: Remedy, curves: Sequence[Curve]) -> GainFound | None:
    """The best series that differs from this in the settings of the remedy alone, at the same rank count."""
    tried = []
    for other in curves:
        same = next((p for p in other.points if p.ranks == point.ranks), None)
        changed = _changed(curve, other)
        if other is not curve and same is not None and changed and all(map(_belongs(remedy), changed)):
            tried.append((other, same))
    if not tried:
        return None
    best, there = max(tried, key=lambda pair: pair[1].throughput.value)
    after, before = _rates(there), _rates(point)
    test: RankTest = rank_test(after, before)
    return GainFound(best.label, ratio_estimate(after, before), adjust([test])[0].words)


def _belongs(remedy: Remedy) -> Callable[[str], bool]:
    return lambda key: key.startswith(remedy.settings)


def _changed(curve: Curve, other: Curve) -> set[str]:
    """Settings in which two curves differ; ``batch`` stands for the batch size, ``resources.`` for nodes."""
    mine, yours = curve.group.settings, other.group.settings
    found = {key for key in {*mine, *yours} if mine.get(key) != yours.get(key)}
    left, right = curve.points[-1].runs[0].facts, other.points[-1].runs[0].facts
    if right.global_batch > left.global_batch:
        found.add("batch")
    elif right.global_batch < left.global_batch:
        found.add("smaller batch")  # no remedy
    if curve.points[-1].nodes != other.points[-1].nodes and left.ranks == right.ranks:
        found.add("resources.nodes")
    return found


def _rates(point: CurvePoint) -> list[float]:
    return [run.measured.samples_per_second for run in point.runs]


def _ms(seconds: float) -> str:
    return f"{1e3 * max(0.0, seconds):.3g} ms"
