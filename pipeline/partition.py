"""Cuts a chain of layers into stages so that the slowest stage is as fast as can be, within a memory limit per stage.

Exact, by dynamic programming over the stages and the layers (Narayanan et al. 2019, PipeDream, §3.1, without its
replication of single stages, since here every stage has the same number of replicas):

    best(1, j) = cost(0, j)
    best(s, j) = min over i < j of max(best(s−1, i), cost(i, j))      cost(i, j) = ∞ where layers [i, j) as stage s
                                                                      do not fit, or no cut may fall before i

with cost(i, j) = forward + backward + receiving of layers [i, j) for one micro-batch. Memory depends on s: stage s
of S holds at most S − s micro-batches. O(S·n²) for n layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from saman.configs.errors import UserError
from saman.pipeline.chain import Chain, Link, PipelinePlan, StageCosts, bounds

_INFINITE = float("inf")


@dataclass(frozen=True)
class StagePartition:
    """Cuts before the layers ``cuts``, and the busy seconds per micro-batch of the slowest stage."""

    cuts: tuple[int, ...]
    slowest_seconds: float


def partition(chain: Chain, plan: PipelinePlan, link: Link, limit_bytes: int | None = None) -> StagePartition:
    """The split whose slowest stage is fastest; among equals the one whose last cuts fall earliest.

    Raises ``UserError`` where the layers are too few, or where no split fits: by how much, and what would fit.
    """
    _refuse_too_many_stages(chain, plan)
    costs = StageCosts(chain, plan, link)

    def seconds(stage: int, begin: int, end: int) -> float:
        too_big = limit_bytes is not None and costs.memory_bytes(stage, begin, end) > limit_bytes
        return _INFINITE if too_big else costs.seconds(begin, end)

    value, cuts = _smallest_maximum(chain, plan.stages, seconds)
    if cuts is None:
        assert limit_bytes is not None  # without a limit every cut that is allowed has a finite cost
        raise _lack(chain, plan, limit_bytes)
    return StagePartition(cuts, value)


def least_memory(chain: Chain, plan: PipelinePlan) -> StagePartition | None:
    """The split whose largest stage is smallest (``slowest_seconds`` then holds bytes); ``None`` if none can be cut."""
    costs = StageCosts(chain, plan, Link())
    value, cuts = _smallest_maximum(chain, plan.stages, lambda s, i, j: float(costs.memory_bytes(s, i, j)))
    return None if cuts is None else StagePartition(cuts, value)


def check_cuts(chain: Chain, cuts: Sequence[int], plan: PipelinePlan, limit_bytes: int | None = None) -> None:
    """Refuse cuts given by hand that cannot be made, or whose stages exceed the limit."""
    layers = len(chain.layers)
    if len(cuts) != plan.stages - 1:
        raise UserError(f"{len(cuts)} cuts do not make {plan.stages} stages", remedy=f"give {plan.stages - 1} cuts")
    if list(cuts) != sorted(set(cuts)) or any(not 0 < cut < layers for cut in cuts):
        raise UserError("the cuts are not in the order of the layers, each once")
    for cut in cuts:
        if cut in chain.uncuttable:
            raise UserError(f"no cut may fall before layer {chain.layers[cut].name!r}: {chain.uncuttable[cut]}")
    if limit_bytes is None:
        return
    costs = StageCosts(chain, plan, Link())
    for stage, (begin, end) in enumerate(bounds(cuts, layers)):
        needed = costs.memory_bytes(stage, begin, end)
        if needed > limit_bytes:
            raise UserError(
                f"stage {stage} needs {size(needed)}, {size(needed - limit_bytes)} more than the limit "
                f"of {size(limit_bytes)}",
                remedy="cuts: auto finds a split that fits, if there is one",
            )


def _smallest_maximum(
    chain: Chain, stages: int, cost: Callable[[int, int, int], float]
) -> tuple[float, tuple[int, ...] | None]:
    """The recurrence at the head of this file; ``None`` for the cuts where every split costs infinitely much."""
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
                    continue  # the maximum cannot get below what is known
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
        + (f" with {len(chain.uncuttable)} places where no cut may fall ({reasons})" if reasons else ""),
        where="train.pipeline.stages",
        remedy=f"at most {possible}",
    )


def _lack(chain: Chain, plan: PipelinePlan, limit_bytes: int) -> UserError:
    """Say by how much the model does not fit, and every single change with which it would."""
    least = least_memory(chain, plan)
    assert least is not None  # _refuse_too_many_stages came first
    needed = int(least.slowest_seconds)
    problem = (
        f"no split into {plan.stages} stages fits in {size(limit_bytes)} per stage: the best needs {size(needed)}, "
        f"{size(needed - limit_bytes)} too much"
    )
    fits = [f"a limit of {size(needed, up=True)}", *_what_fits(chain, plan, limit_bytes)]
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


def size(count: float, up: bool = False) -> str:
    """``count`` bytes for people: ``1.4 GiB``; ``up`` never rounds down."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= factor:
            tenths = -(-count * 10 // factor) / 10 if up else count / factor
            return f"{tenths:.1f} {unit}"
    return f"{int(count)} bytes"
