"""Cuts a chain of layers into stages so that the slowest stage is as fast as possible, within a memory limit.

Exact, by dynamic programming over the stages and the layers (Narayanan et al. 2019, PipeDream, §3.1, without its
replication of single stages, since here every stage has the same number of replicas):

    best(1, j) = cost(0, j)
    best(s, j) = min over i < j of max(best(s−1, i), cost(i, j))      cost(i, j) = ∞ where layers [i, j) as stage s
                                                                      do not fit, or the model cannot be cut before i

with cost(i, j) = forward + backward + receiving of layers [i, j) for one micro-batch. Memory depends on s: stage s
of S holds at most S − s micro-batches. O(S·n²) for n layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from saman.configs.errors import UserError
from saman.configs.units import format_bytes
from saman.pipeline.chain import Chain, Link, PipelinePlan, StageCosts, stage_spans

_INFINITE = float("inf")


@dataclass(frozen=True)
class StagePartition:
    """Cuts before the layers at ``cuts``, and the cost of the most expensive stage: busy seconds per micro-batch."""

    cuts: tuple[int, ...]
    slowest_seconds: float


def partition(chain: Chain, plan: PipelinePlan, link: Link, limit_bytes: int | None = None) -> StagePartition:
    """Find the split with the fastest slowest stage; of several such splits, that with the earliest last cuts.

    Args:
        chain: The measured layers.
        plan: Number of stages and micro-batches, order, what is kept in memory.
        link: Latency and bandwidth between stages.
        limit_bytes: The memory limit of each stage; ``None`` for no limit.

    Returns:
        The cuts, and the busy seconds per micro-batch of the slowest stage.

    Raises:
        UserError: The chain has too few layers, or no split fits; the message says by how much, and what would fit.

    Example:
        >>> from saman.pipeline.chain import Layer
        >>> chain = Chain(tuple(Layer(f"l{i}", 1.0, 2.0, 0, 0) for i in range(4)), (0,) * 4, (0,) * 4, {})
        >>> partition(chain, PipelinePlan(stages=2, micro_batches=4), Link()).cuts
        (2,)
    """
    _refuse_too_many_stages(chain, plan)
    costs = StageCosts(chain, plan, link)

    def seconds(stage: int, begin: int, end: int) -> float:
        too_big = limit_bytes is not None and costs.memory_bytes(stage, begin, end) > limit_bytes
        return _INFINITE if too_big else costs.seconds(begin, end)

    value, cuts = _smallest_maximum(chain, plan.stages, seconds)
    if cuts is None:
        assert limit_bytes is not None  # without a limit every possible cut has a finite cost
        raise _too_large(chain, plan, limit_bytes)
    return StagePartition(cuts, value)


def least_memory(chain: Chain, plan: PipelinePlan) -> StagePartition | None:
    """Return the split with the smallest largest stage, its bytes in ``slowest_seconds``; ``None`` if there is none."""
    costs = StageCosts(chain, plan, Link())
    value, cuts = _smallest_maximum(chain, plan.stages, lambda s, i, j: float(costs.memory_bytes(s, i, j)))
    return None if cuts is None else StagePartition(cuts, value)


def check_cuts(chain: Chain, cuts: Sequence[int], plan: PipelinePlan, limit_bytes: int | None = None) -> None:
    """Check the user's cuts of a partition into pipeline stages.

    Args:
        chain: The measured layers.
        cuts: Positions of the layers before which to cut, in ascending order.
        plan: Number of stages and micro-batches, order, what is kept in memory.
        limit_bytes: The memory limit of each stage; ``None`` for no limit.

    Raises:
        UserError: The cuts are not possible, or a stage exceeds ``limit_bytes``.
    """
    layers = len(chain.layers)
    if len(cuts) != plan.stages - 1:
        raise UserError(f"{len(cuts)} cuts do not make {plan.stages} stages", remedy=f"give {plan.stages - 1} cuts")
    check_positions(cuts, [layer.name for layer in chain.layers], chain.uncuttable)
    if limit_bytes is None:
        return
    costs = StageCosts(chain, plan, Link())
    for stage, (begin, end) in enumerate(stage_spans(cuts, layers)):
        needed = costs.memory_bytes(stage, begin, end)
        if needed > limit_bytes:
            raise UserError(
                f"stage {stage} needs {format_bytes(needed)}, {format_bytes(needed - limit_bytes)} more than the limit "
                f"of {format_bytes(limit_bytes)}",
                remedy="use cuts: auto, which finds a split that fits if any split fits",
            )


def check_positions(cuts: Sequence[int], layers: Sequence[str], uncuttable: Mapping[int, str]) -> None:
    """Check that the partition of a pipeline can cut at these positions.

    Args:
        cuts: Positions of the layers before which to cut.
        layers: The names of the model's layers in order.
        uncuttable: The positions at which the model cannot be cut, each with the reason.

    Raises:
        UserError: A cut is not possible, or the cuts are out of order.
    """
    where = "train.pipeline.cuts"
    if list(cuts) != sorted(set(cuts)) or any(not 0 < cut < len(layers) for cut in cuts):
        names = [layers[cut] for cut in cuts if 0 <= cut < len(layers)]
        problem = f"the cuts {names} are not in the order of the layers, or begin with the first layer"
        raise UserError(problem, where=where, remedy="name later layers, each once, in the model's order")
    for cut in cuts:
        if cut in uncuttable:
            raise UserError(f"the model cannot be cut before layer {layers[cut]!r}: {uncuttable[cut]}", where=where)


def _smallest_maximum(
    chain: Chain, stages: int, cost: Callable[[int, int, int], float]
) -> tuple[float, tuple[int, ...] | None]:
    """Solve the recurrence above; the cuts are ``None`` if every split has an infinite cost."""
    layers = len(chain.layers)
    allowed = [at for at in range(1, layers) if at not in chain.uncuttable]
    best = [_INFINITE] + [cost(0, 0, end) for end in range(1, layers + 1)]
    came_from: list[list[int]] = []
    for stage in range(1, stages):
        following, choice = [_INFINITE] * (layers + 1), [-1] * (layers + 1)
        ends = range(stage + 1, layers + 1) if stage < stages - 1 else (layers,)
        for end in ends:
            for begin in allowed:
                if begin >= end:
                    break
                if best[begin] >= following[end]:
                    continue  # the maximum cannot fall below best[begin]
                value = max(best[begin], cost(stage, begin, end))
                if value < following[end]:
                    following[end], choice[end] = value, begin
        best = following
        came_from.append(choice)
    if best[layers] == _INFINITE:
        return _INFINITE, None
    cuts, end = [], layers
    for choice in reversed(came_from):
        end = choice[end]
        cuts.append(end)
    return best[layers], tuple(reversed(cuts))


def _refuse_too_many_stages(chain: Chain, plan: PipelinePlan) -> None:
    possible = len(chain.layers) - len(chain.uncuttable)
    if plan.stages <= possible:
        return
    reasons = "; ".join(sorted(set(chain.uncuttable.values())))
    raise UserError(
        f"{plan.stages} stages cannot be made of {len(chain.layers)} layers"
        + (f", which cannot be cut at {len(chain.uncuttable)} positions ({reasons})" if reasons else ""),
        where="train.pipeline.stages",
        remedy=f"use at most {possible}",
    )


def _too_large(chain: Chain, plan: PipelinePlan, limit_bytes: int) -> UserError:
    """Say how much memory is missing, and every single change with which the model would fit."""
    least = least_memory(chain, plan)
    assert least is not None  # _refuse_too_many_stages came first
    needed = int(least.slowest_seconds)
    problem = (
        f"no split into {plan.stages} stages fits in {format_bytes(limit_bytes)} per stage: "
        f"the best needs {format_bytes(needed)}, {format_bytes(needed - limit_bytes)} too much"
    )
    fits = [f"a limit of {format_bytes(needed, up=True)}", *_what_fits(chain, plan, limit_bytes)]
    return UserError(problem, where="train.pipeline.memory_limit", remedy="this would fit: " + ", or ".join(fits))


def _what_fits(chain: Chain, plan: PipelinePlan, limit_bytes: int) -> list[str]:
    def fits(changed: PipelinePlan, factor: float = 1.0) -> bool:
        found = least_memory(chain.scaled(factor) if factor != 1 else chain, changed)
        return found is not None and found.slowest_seconds <= limit_bytes

    found = []
    if not plan.recompute and fits(replace(plan, recompute=True)):
        found.append("recompute: true")
    most = len(chain.layers) - len(chain.uncuttable)
    stages = next((s for s in range(plan.stages + 1, most + 1) if fits(replace(plan, stages=s))), None)
    if stages is not None:
        found.append(f"{stages} stages")
    for times in (2, 4, 8, 16, 32, 64):
        # the same batch in more, smaller micro-batches
        if fits(replace(plan, micro_batches=plan.micro_batches * times), 1 / times):
            found.append(f"{plan.micro_batches * times} micro-batches")
            break
    return found
