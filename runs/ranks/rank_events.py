"""The facts of events about single ranks, as types: how a rank failed, how its process exited."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from saman.runs.events import Event, EventKind
from saman.runs.records.schema import integer

ENDED_WELL = (0, 85)  # done, and checkpointed on request


class FailureKind(str, Enum):
    """Why a process failed."""

    ERROR = "error"
    USER_ERROR = "user_error"  # a mistake in the request that only a rank could find
    USER_CODE = "user_code"  # an exception in a function of the user's
    MISPLACED = "misplaced"  # the process ran elsewhere than planned
    KILLED = "killed"  # by a signal
    PEER_LOST = "peer_lost"  # a consequence of another process's end


def failure_kind(text: object) -> FailureKind:
    """The kind of a rank's failure event by this name; ``ERROR`` for a name that this version does not know."""
    try:
        return FailureKind(text)
    except ValueError:
        return FailureKind.ERROR


@dataclass(frozen=True)
class RankFailed:
    """``rank_failed``: what a rank itself, or its wrapper, reports about its failure."""

    rank: int
    time: float
    kind: FailureKind | None
    node: str | None
    message: str | None
    step: int | None = None  # that the rank had reached; unknown in a user's own program

    @classmethod
    def from_event(cls, event: Event) -> RankFailed | None:
        """The facts of an event; ``None`` if it is of another kind or names no rank."""
        rank, facts = event.facts.get("rank"), event.facts
        if event.kind != EventKind.RANK_FAILED or not isinstance(rank, int):
            return None
        kind = None if facts.get("failure") is None else failure_kind(facts["failure"])
        return cls(rank, event.time, kind, facts.get("node"), facts.get("message"), integer(facts.get("step")))


@dataclass(frozen=True)
class RankExited:
    """``rank_exited``: the exit status or signal of a process. ``stopped``: a request to stop came before its end."""

    rank: int
    node: str | None
    code: int | None = None
    signal: int | None = None
    stopped: bool = False
    last_lines: tuple[str, ...] = ()
    time: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether it ended badly."""
        return self.code not in ENDED_WELL

    def facts(self) -> dict[str, Any]:
        """The facts to append to the run's events; an exit status or signal that is unknown is left out."""
        how = {name: value for name, value in (("code", self.code), ("signal", self.signal)) if value is not None}
        facts = {"rank": self.rank, "node": self.node, "stopped": self.stopped, **how}
        return {**facts, "last_lines": list(self.last_lines)}

    @classmethod
    def from_event(cls, event: Event) -> RankExited | None:
        """The facts of an event; ``None`` if it is of another kind or names no rank."""
        rank, facts = event.facts.get("rank"), event.facts
        if event.kind != EventKind.RANK_EXITED or not isinstance(rank, int):
            return None
        return cls(
            rank=rank,
            node=facts.get("node"),
            code=facts.get("code"),
            signal=facts.get("signal"),
            stopped=bool(facts.get("stopped")),
            last_lines=tuple(str(line) for line in facts.get("last_lines", ())),
            time=event.time,
        )


@dataclass(frozen=True)
class SlowRank:
    """``straggler``: a rank for which all others wait; ``ended`` says that they no longer do.

    ``slower`` is its excess over the median of its peers, as a share of it; ``step`` is that of the run.
    """

    rank: int
    node: str
    slower: float
    step: int
    ended: bool = False

    @property
    def words(self) -> str:
        """The change in words.

        >>> SlowRank(5, "n1", 0.3, 90).words
        'rank 5 on n1 is 30% slower than its peers'
        """
        if self.ended:
            return f"rank {self.rank} is no longer slow"
        return f"rank {self.rank} on {self.node} is {self.slower:.0%} slower than its peers"

    def facts(self) -> dict[str, Any]:
        """The facts of this rank event, to append to the run's events."""
        return {**asdict(self), "slower": round(self.slower, 3)}

    @classmethod
    def from_event(cls, event: Event) -> SlowRank | None:
        """The facts of an event; ``None`` if it is of another kind or names no rank."""
        facts = event.facts
        rank, slower, step = facts.get("rank"), facts.get("slower"), facts.get("step")
        if event.kind != EventKind.STRAGGLER or not isinstance(rank, int):
            return None
        excess = float(slower) if isinstance(slower, int | float) else 0.0
        return cls(
            rank, str(facts.get("node", "?")), excess, step if isinstance(step, int) else 0, bool(facts.get("ended"))
        )
