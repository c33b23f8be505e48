"""Simulates a pipelined step of several replicas whose ranks take turns on the cores of their nodes.

A core with two ranks at work runs each at half its speed, a rank on several cores at the mean of them (processor
sharing). A rank that waits for a message uses no core, so stages that share a core may fill each other's bubbles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from saman.pipeline.schedule import ORDERS, Action
from saman.pipeline.simulate import Deadlock


@dataclass(frozen=True)
class StageWork:
    """Seconds of a stage per micro-batch while it has its cores to itself: both passes, and messages besides."""

    forward: float
    backward: float

    def seconds(self, action: Action) -> float:
        """The seconds of an action."""
        return self.forward if action.kind == "forward" else self.backward


@dataclass(frozen=True)
class SharedStep:
    """A simulated step: its length, and the share of it in which each stage waits, the mean over replicas."""

    seconds: float
    waiting: tuple[float, ...]

    @property
    def bubble_share(self) -> float:
        """The mean share of waiting over all stages."""
        return sum(self.waiting) / len(self.waiting) / self.seconds if self.seconds else 0.0


def cores_of(local_rank: int, cores_per_rank: int, node_cores: int) -> tuple[int, ...]:
    """The cores that a pipeline's rank shares: the next cores in turn, from core 0 again after the last."""
    return tuple(sorted({(local_rank * cores_per_rank + step) % node_cores for step in range(cores_per_rank)}))


def play_shared(
    order: str,
    work: Sequence[StageWork],
    micro_batches: int,
    cores: Sequence[Sequence[int]],
    delay: float = 0.0,
) -> SharedStep:
    """Simulate the passes of a step.

    Args:
        order: A key of ``ORDERS``.
        work: Of each stage.
        micro_batches: Micro-batches per step and replica.
        cores: The cores of each rank; rank = replica × stages + stage. An empty list: a core of its own.
        delay: Seconds from the end of an action to the arrival of its message.

    Raises:
        Deadlock: The stages wait for each other.
    """
    stages = len(work)
    runs = [_Rank(rank % stages, order, stages, micro_batches, tuple(own)) for rank, own in enumerate(cores)]
    now = 0.0
    while any(not rank.done for rank in runs):
        for rank in runs:
            rank.start_if_ready(now, work)
        active = [rank for rank in runs if rank.left is not None]
        speeds = _speeds(active)
        ends = [now + (rank.left or 0.0) / speed for rank, speed in zip(active, speeds, strict=True)]
        then = min([*ends, *(rank.next_arrival(now) for rank in runs)])
        if then == inf:
            raise Deadlock("every stage waits")
        for rank, speed, end in zip(active, speeds, ends, strict=True):
            rank.advance(then - now, speed, finished=end <= then)
        now = then
        for index, rank in enumerate(runs):
            if rank.finished is not None:
                _send(runs, index, stages, rank.finished, now + delay)
                rank.finished = None
    waiting = [now - rank.busy for rank in runs]
    replicas = len(runs) // stages
    return SharedStep(now, tuple(sum(waiting[stage::stages]) / replicas for stage in range(stages)))


class _Rank:
    """A rank between its actions: what it still has to do, and the messages that arrived."""

    def __init__(self, stage: int, order: str, stages: int, micro_batches: int, cores: tuple[int, ...]) -> None:
        self.stage, self.cores = stage, cores
        self.actions = list(ORDERS[order](stage, stages, micro_batches))
        self.arrivals = {Action("forward", m): 0.0 for m in range(micro_batches)} if stage == 0 else {}
        self.next, self.busy = 0, 0.0
        self.left: float | None = None  # seconds that the present action still takes alone on its cores
        self.finished: Action | None = None

    @property
    def done(self) -> bool:
        return self.next == len(self.actions) and self.left is None

    def start_if_ready(self, now: float, work: Sequence[StageWork]) -> None:
        if self.left is None and self.next < len(self.actions):
            action = self.actions[self.next]
            if self.arrivals.get(action, inf) <= now:
                self.left, self.next = work[self.stage].seconds(action), self.next + 1

    def next_arrival(self, now: float) -> float:
        """When the message of the next action arrives, if it is on its way."""
        if self.left is not None or self.next == len(self.actions):
            return inf
        return self.arrivals.get(self.actions[self.next], inf)

    def advance(self, seconds: float, speed: float, finished: bool) -> None:
        assert self.left is not None
        self.busy += seconds
        self.left -= seconds * speed
        if finished:
            self.left, self.finished = None, self.actions[self.next - 1]


def _speeds(active: Sequence[_Rank]) -> list[float]:
    users: dict[int, int] = {}
    for rank in active:
        for core in rank.cores:
            users[core] = users.get(core, 0) + 1
    return [sum(1 / users[core] for core in rank.cores) / len(rank.cores) if rank.cores else 1.0 for rank in active]


def _send(runs: Sequence[_Rank], index: int, stages: int, action: Action, arrival: float) -> None:
    """Let the rank that waits for this action's message have it; the last stage turns forward into backward."""
    rank = runs[index]
    if action.kind == "backward":
        if rank.stage > 0:
            runs[index - 1].arrivals[action] = arrival
    elif rank.stage == stages - 1:
        rank.arrivals[Action("backward", action.micro_batch)] = 0.0
    else:
        runs[index + 1].arrivals[action] = arrival
