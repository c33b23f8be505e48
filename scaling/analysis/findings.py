"""A finding: something a reader of a report must know about its runs and curves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """Something a reader must know; ``kind`` is for programs, ``hides`` whether a curve is not drawn for it.

    A ``note`` is worth knowing but nothing is wrong; it leaves the exit code alone.
    """

    kind: str
    text: str
    hides: bool = False
    note: bool = False
