"""Boundaries of a machine behind which a curve may break: nodes, switches, shared cores, memory."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum


class Boundary(str, Enum):
    """A boundary that a rank count lies beyond. The values are stable: they are written to records of forecasts."""

    NODE = "node"
    SWITCH = "switch"
    SHARED_CORES = "shared_cores"
    MEMORY = "memory"

    @property
    def words(self) -> str:
        """The name of the boundary in messages and reports."""
        return {
            Boundary.NODE: "a node boundary",
            Boundary.SWITCH: "a switch boundary",
            Boundary.SHARED_CORES: "the cores of a node",
            Boundary.MEMORY: "the memory bandwidth of a node",
        }[self]


def unmeasured(beyond: Iterable[Boundary], measured: Iterable[Iterable[Boundary]]) -> tuple[Boundary, ...]:
    """The boundaries that a place lies beyond and no measured point does.

    >>> unmeasured({Boundary.NODE}, [set(), set()])
    (<Boundary.NODE: 'node'>,)
    >>> unmeasured({Boundary.NODE}, [set(), {Boundary.NODE}])
    ()
    """
    known = {boundary for boundaries in measured for boundary in boundaries}
    return tuple(sorted(set(beyond) - known))
