"""The order of a stage's passes over the micro-batches of a step: 1F1B, and GPipe's for comparison.

Three stages, five micro-batches: forward passes 0 1 2 3 4, backward passes a b c d e; time runs to the right.

    1F1B
    stage 0   0 1 2 . . a 3 b 4 c . d . e   holds at most 3 micro-batches
    stage 1   . 0 1 . a 2 b 3 c 4 d . e .   at most 2
    stage 2   . . 0 a 1 b 2 c 3 d 4 e . .   at most 1

    GPipe
    stage 0   0 1 2 3 4 . . . . e d c b a   holds all 5
    stage 1   . 0 1 2 3 4 . . e d c b a .   all 5
    stage 2   . . 0 1 2 3 4 e d c b a . .   all 5

Stage s of n first runs n − s − 1 forward passes ahead, then alternates forward and backward passes, then drains
(Narayanan et al. 2019, PipeDream, §3.2; flushed each step as in Narayanan et al. 2021, §2.2). Both orders leave a stage
idle for (n − 1)/(m + n − 1) of an even step; 1F1B holds min(m, n − s) micro-batches instead of all m.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

Pass = Literal["forward", "backward"]


@dataclass(frozen=True)
class Action:
    """A pass of a micro-batch, counted from 0 within the step, through a stage."""

    kind: Pass
    micro_batch: int


Order = Callable[[int, int, int], Iterator[Action]]


def one_forward_one_backward(stage: int, stages: int, micro_batches: int) -> Iterator[Action]:
    """Yield the actions of a stage in a step; it holds at most ``stages − stage`` micro-batches.

    Args:
        stage: The stage, from 0.
        stages: Number of stages.
        micro_batches: Micro-batches per step.

    >>> [f"{action.kind[0]}{action.micro_batch}" for action in one_forward_one_backward(1, 2, 2)]
    ['f0', 'b0', 'f1', 'b1']
    """
    ahead = min(stages - stage - 1, micro_batches)
    for micro_batch in range(ahead):
        yield Action("forward", micro_batch)
    for micro_batch in range(ahead, micro_batches):
        yield Action("forward", micro_batch)
        yield Action("backward", micro_batch - ahead)
    for micro_batch in range(micro_batches - ahead, micro_batches):
        yield Action("backward", micro_batch)


def all_forward_all_backward(stage: int, stages: int, micro_batches: int) -> Iterator[Action]:
    """Yield GPipe's order (Huang et al. 2019, §2.3): every forward pass, then every backward pass in reverse.

    Args:
        stage: The stage, from 0; the order is the same for all stages.
        stages: Number of stages.
        micro_batches: Micro-batches per step.

    >>> [f"{action.kind[0]}{action.micro_batch}" for action in all_forward_all_backward(0, 2, 2)]
    ['f0', 'f1', 'b1', 'b0']
    """
    for micro_batch in range(micro_batches):
        yield Action("forward", micro_batch)
    for micro_batch in reversed(range(micro_batches)):
        yield Action("backward", micro_batch)


ORDERS: dict[str, Order] = {"1f1b": one_forward_one_backward, "gpipe": all_forward_all_backward}


def bubble_bound(micro_batches: int, stages: int) -> float:
    """Return the speed-up of a schedule with even stages and free transfers: m·n/(m + n − 1) (Huang et al., §2.3).

    >>> round(bubble_bound(micro_batches=8, stages=4), 2)
    2.91
    """
    return micro_batches * stages / (micro_batches + stages - 1)
