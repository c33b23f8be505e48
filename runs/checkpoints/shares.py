"""Divides the state of a model into shares of equal bytes, one for each process that writes, and joins it again. Pure.

The arrays, in the order of their names, are one row of bytes that is cut into equal shares. An array at a cut is
written in pieces, each a flat array called ``NAME[START:STOP]``; the manifest holds the shapes of such arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LEAST_BYTES = 4 << 20  # of a share: a smaller file costs a shared file system more than it saves
_PIECE = re.compile(r"(.+)\[(\d+):(\d+)\]")


class ArraySize(NamedTuple):
    """Number of items of an array, and bytes of each."""

    items: int
    item_bytes: int


@dataclass(frozen=True)
class Piece:
    """The items from ``start`` to ``stop`` of an array, or the whole array."""

    name: str
    start: int
    stop: int
    whole: bool

    @property
    def label(self) -> str:
        """The name under which the piece is written."""
        return self.name if self.whole else f"{self.name}[{self.start}:{self.stop}]"

    def of(self, array: np.ndarray) -> np.ndarray:
        """Return the piece of its array, without a copy."""
        return array if self.whole else array.reshape(-1)[self.start : self.stop]


def divide(sizes: Mapping[str, ArraySize], writers: int, least_bytes: int = LEAST_BYTES) -> list[list[Piece]]:
    """Divide named arrays into at most ``writers`` shares; every process computes the same division.

    Args:
        sizes: The size of each array.
        writers: The number of processes that can write.
        least_bytes: Fewer shares are made if they would be smaller.

    Returns:
        The pieces of each share; at least one share. Their bytes differ by less than two items.

    Example:
        >>> [[piece.label for piece in share] for share in divide({"a": ArraySize(6, 4), "b": ArraySize(4, 4)}, 2, 1)]
        [['a[0:5]'], ['a[5:6]', 'b']]
    """
    total = sum(size.items * size.item_bytes for size in sizes.values())
    count = max(1, min(writers, total // least_bytes))
    cuts = [total * share // count for share in range(count + 1)]
    shares: list[list[Piece]] = [[] for _ in range(count)]
    offset = 0
    for name in sorted(sizes):
        items, item_bytes = sizes[name]
        places = [min(max(-((offset - cut) // item_bytes), 0), items) for cut in cuts]
        for share, (start, stop) in enumerate(zip(places, places[1:], strict=False)):
            if stop > start:
                shares[share].append(Piece(name, start, stop, stop - start == items))
        if not items:
            shares[0].append(Piece(name, 0, 0, True))
        offset += items * item_bytes
    return shares


def share_of(process: int, processes: int, shares: int) -> int | None:
    """Return the share that a process writes, ``None`` for no share; writers are spread over the nodes.

    >>> [share_of(process, 4, 2) for process in range(4)]
    [0, None, 1, None]
    """
    writers = [share * processes // shares for share in range(shares)]
    return writers.index(process) if process in writers else None


def join(arrays: Mapping[str, np.ndarray], divided: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    """Return whole arrays from pieces.

    Args:
        arrays: Whole arrays by name and pieces by label.
        divided: The shape of each array that was written in pieces.

    Raises:
        ValueError: The pieces of an array do not fit together.
    """
    check_pieces({label: array.size for label, array in arrays.items()}, divided)
    whole = {name: array for name, array in arrays.items() if _piece_of(name, divided) is None}
    for name, labels in _labels(arrays, divided).items():
        whole[name] = np.concatenate([arrays[label] for label in labels]).reshape(tuple(divided[name]))
    return whole


def check_pieces(items: Mapping[str, int], divided: Mapping[str, Sequence[int]]) -> None:
    """Raise ``ValueError`` if pieces, of which ``items`` holds the numbers of items, do not make up whole arrays."""
    for name, labels in _labels(items, divided).items():
        end = 0
        for label in labels:
            _, start, stop = _piece_of(label, divided) or ("", -1, -1)
            if start != end or stop - start != items[label]:
                raise ValueError(f"the pieces of {name} do not fit together at item {end}")
            end = stop
        if end != int(np.prod(divided[name], dtype=np.int64)):
            raise ValueError(f"{name} ends at item {end}")


def _labels(arrays: Mapping[str, object], divided: Mapping[str, Sequence[int]]) -> dict[str, list[str]]:
    """Return the labels of each divided array's pieces, in order."""
    found: dict[str, list[tuple[int, str]]] = {name: [] for name in divided}
    for label in arrays:
        if piece := _piece_of(label, divided):
            found[piece[0]].append((piece[1], label))
    return {name: [label for _, label in sorted(labels)] for name, labels in found.items()}


def _piece_of(label: str, divided: Mapping[str, Sequence[int]]) -> tuple[str, int, int] | None:
    match = _PIECE.fullmatch(label)
    return (match[1], int(match[2]), int(match[3])) if match and match[1] in divided else None
