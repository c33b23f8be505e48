"""Messages between the authority of an elastic run and its members: a JSON object per line.

A member is a process with a slot, a number that it keeps for its life and that its replacement takes over. A *world*
is a list of slots in the order of Horovod's ranks. Worlds are numbered by generations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any

from saman.runs.files.whole import parse_json


class ReportKind(str, Enum):
    """What a member reports."""

    READY = "ready"  # built, without state; may join a world
    LEFT = "left"  # has left the world of a generation, with its state
    FORMED = "formed"  # is connected to all peers of the world
    AGREED = "agreed"  # holds the state of the world
    STEPPED = "stepped"  # has taken its first step in the world
    STUCK = "stuck"  # cannot leave a world that is being formed
    DONE = "done"  # the run is over


@dataclass(frozen=True)
class MemberReport:
    """A member's report to the authority.

    Attributes:
        kind: What it reports.
        generation: The world that it is about.
        step: Optimiser steps in its state.
        epoch: Epochs in its state.
        position: Its position in the training, for members without state; opaque here. Empty if it holds no whole
            state.
    """

    kind: ReportKind
    generation: int = 0
    step: int = 0
    epoch: int = 0
    position: str = ""

    @property
    def holds_state(self) -> bool:
        """Whether the member holds the whole state of a step."""
        return self.kind in (ReportKind.LEFT, ReportKind.STUCK) and bool(self.position)

    def line(self) -> bytes:
        """Return the report as a line."""
        return _line({**asdict(self), "kind": self.kind.value})

    @classmethod
    def from_line(cls, line: bytes) -> MemberReport:
        """Return the report of a line; raises ``ValueError`` for anything else."""
        value = _object(line)
        return cls(**{**_known(cls, value), "kind": ReportKind(value.get("kind"))})


class OrderKind(str, Enum):
    """What the authority orders."""

    LEAVE = "leave"  # the world of a generation
    FORM = "form"  # a new world
    SAVE = "save"  # the state as a checkpoint; then end
    END = "end"  # now, without state
    FINISHED = "finished"  # the run is over: end well


@dataclass(frozen=True)
class World:
    """The members of a generation.

    Attributes:
        generation: Its number, from 1.
        slots: The slots of its members, in the order of ranks.
        source: The rank whose state counts; ``None`` if no member holds state.
        position: The position of that state.
        spread: Whether a member lacks that state, so that all members take part in a broadcast.
    """

    generation: int
    slots: tuple[int, ...]
    source: int | None = None
    position: str = ""
    spread: bool = False


@dataclass(frozen=True)
class Order:
    """The authority's order to a member; ``world`` for ``FORM``."""

    kind: OrderKind
    generation: int = 0
    world: World | None = None

    def line(self) -> bytes:
        """Return the order as a line."""
        return _line({**asdict(self), "kind": self.kind.value})

    @classmethod
    def from_line(cls, line: bytes) -> Order:
        """Return the order of a line; raises ``ValueError`` for anything else."""
        value = _object(line)
        world = value.get("world")
        if world is not None:
            world = World(**{**_known(World, world), "slots": tuple(world["slots"])})
        return cls(OrderKind(value.get("kind")), int(value.get("generation", 0)), world)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    value = parse_json(line)
    if not isinstance(value, dict):
        raise ValueError("a message is a JSON object")
    return value


def _known(kind: type[Any], value: Mapping[str, Any]) -> dict[str, Any]:
    names = {part.name for part in fields(kind)}
    return {name: item for name, item in value.items() if name in names}
