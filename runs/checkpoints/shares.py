"""Divides the state of a model into shares of about equal bytes, one for each process that writes. Pure."""

from __future__ import annotations

from collections.abc import Mapping

LEAST_BYTES = 4 << 20  # of a share: a smaller file costs a shared file system more than it saves


def share_names(sizes: Mapping[str, int], writers: int, least_bytes: int = LEAST_BYTES) -> list[list[str]]:
    """Divide named arrays into at most ``writers`` shares; every process computes the same division.

    The largest array goes first, always to the smallest share (Graham 1969: at most 4/3 of the best division).

    Args:
        sizes: The bytes of each array.
        writers: The number of processes that can write.
        least_bytes: Fewer shares are made if they would be smaller on average.

    Returns:
        The names of each share; at least one share, the first of them the writer's who publishes.

    Example:
        >>> share_names({"a": 6, "b": 3, "c": 2}, writers=2, least_bytes=1)
        [['a'], ['b', 'c']]
    """
    shares = max(1, min(writers, sum(sizes.values()) // least_bytes, len(sizes)))
    names: list[list[str]] = [[] for _ in range(shares)]
    filled = [0] * shares
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        smallest = filled.index(min(filled))
        names[smallest].append(name)
        filled[smallest] += sizes[name]
    return names


def share_of(process: int, processes: int, shares: int) -> int | None:
    """Return the share that a process writes, ``None`` for no share; writers are spread over the nodes.

    >>> [share_of(process, 4, 2) for process in range(4)]
    [0, None, 1, None]
    """
    writers = [share * processes // shares for share in range(shares)]
    return writers.index(process) if process in writers else None
