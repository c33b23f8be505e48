"""The event that records a world of an elastic run: who is in it, and how long each phase of its forming took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from saman.runs.events import Event, EventKind
from saman.runs.records.schema import integer, mapping, number


class WorldCause(str, Enum):
    """Why a world was formed."""

    START = "start"
    LOSS = "loss"  # a member ended
    JOIN = "join"  # a member came
    EXCHANGE = "exchange"  # an exchange failed although every member lives


@dataclass(frozen=True)
class WorldFormed:
    """A world of an elastic run.

    Attributes:
        generation: Its number, from 1.
        cause: The value of a ``WorldCause``.
        slots: The slots of its members, in the order of ranks.
        lost: Slots of the world before that are not in it.
        joined: Slots that were not in the world before.
        step: Optimiser steps taken before it.
        detected: Unix time at which the authority learned of the loss or of the new member.
        seconds: From then until all members had ``left`` the old world, ``formed`` this one, ``agreed`` on the state,
            and ``stepped``. A phase that was not reached is missing.
    """

    generation: int
    cause: str
    slots: tuple[int, ...]
    lost: tuple[int, ...] = ()
    joined: tuple[int, ...] = ()
    step: int = 0
    detected: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number of ranks."""
        return len(self.slots)

    @property
    def is_recovery(self) -> bool:
        """Whether a failure ended the world before."""
        return self.cause in (WorldCause.LOSS, WorldCause.EXCHANGE)

    def sentence(self) -> str:
        """Return what changed, for people.

        >>> WorldFormed(3, "loss", (0, 2), lost=(1,), step=40, seconds={"stepped": 0.61}).sentence()
        'rank 1 lost: 2 ranks go on after step 40, 0.6 s later'
        """
        lost = f"rank {', '.join(map(str, self.lost))} lost" if self.lost else ""
        joined = f"rank {', '.join(map(str, self.joined))} joined" if self.joined else ""
        what = ", ".join(filter(None, (lost, joined))) or "an exchange failed"
        later = f", {self.seconds['stepped']:.1f} s later" if "stepped" in self.seconds else ""
        return f"{what}: {self.size} ranks go on after step {self.step}{later}"

    def facts(self) -> dict[str, Any]:
        """Return the facts as they are written to ``events.jsonl``."""
        lists = {"slots": list(self.slots), "lost": list(self.lost), "joined": list(self.joined)}
        numbers = {"generation": self.generation, "cause": self.cause, "ranks": self.size, "step": self.step}
        return {**numbers, **lists, "detected": self.detected, "seconds": dict(self.seconds)}

    @classmethod
    def from_event(cls, event: Event) -> WorldFormed | None:
        """Return the world of an event; ``None`` if the event is of another kind."""
        if event.kind != EventKind.WORLD:
            return None
        facts = event.facts
        seconds = {name: number(value) for name, value in mapping(facts.get("seconds")).items()}

        def slots(name: str) -> tuple[int, ...]:
            found = facts.get(name)
            return tuple(item for item in found if isinstance(item, int)) if isinstance(found, list) else ()

        return cls(
            generation=integer(facts.get("generation")) or 0,
            cause=str(facts.get("cause", "")),
            slots=slots("slots"),
            lost=slots("lost"),
            joined=slots("joined"),
            step=integer(facts.get("step")) or 0,
            detected=number(facts.get("detected")) or 0.0,
            seconds={name: value for name, value in seconds.items() if value is not None},
        )
