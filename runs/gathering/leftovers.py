"""Gathers what killed processes left on this machine, where no process of the node is left to do so."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from saman.runs import locks
from saman.runs.gathering.gathering import GatheredNode, NodeGathering
from saman.runs.gathering.node_folder import duty_lock, find_node_folders, remove_node_folder
from saman.runs.paths.run import RunPaths


def gather_leftovers(run: RunPaths, attempt: int, nodes: Mapping[str, int], wait_seconds: float = 2.0) -> None:
    """Gather and remove what an attempt left on this machine, unless a process of the node still gathers.

    Args:
        run: The run.
        attempt: The number of the attempt.
        nodes: The position of each of its nodes, by name.
        wait_seconds: How long to wait for a process that gathers.
    """
    for name, index in nodes.items():
        for own in (own for own in find_node_folders(run, name) if own.number == attempt):
            with contextlib.suppress(OSError, locks.LockHeldError):
                with locks.hold(duty_lock(own), wait_seconds=wait_seconds, mode=0o600, this_machine=True):
                    if own.rank_folder.is_dir():
                        gathering = NodeGathering(GatheredNode(own, run.attempt(own.number), index, name))
                        try:
                            gathering.gather()
                        finally:
                            gathering.close()
                remove_node_folder(own)
