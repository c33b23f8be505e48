"""The cores and the adapter near a process's GPUs, on the node where it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saman.launcher.node.machine import visible_gpus
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.topology.look import this_topology
from saman.launcher.topology.pairing import Pairing, pair


def paired(
    placement: Placement | None, process: Process, allowed: Sequence[int], environ: Mapping[str, str]
) -> Pairing | None:
    """Where this process runs best; every process of the node comes to the same answer for all of them.

    Args:
        placement: the whole placement; ``None`` if the process was started by hand.
        process: this process in it.
        allowed: the logical cores that the run may use on this node.
        environ: the variables of this process; they name the visible GPUs.

    Returns:
        ``None`` if the process is not to be pinned, is pinned already, or nothing is known of the node: then the
        placement's own order of cores counts.
    """
    if placement is None or not process.cores or len(allowed) <= len(process.cores):
        return None
    here = placement.on(process.node)
    visible = visible_gpus(environ) if any(each.gpus for each in here) else []
    wanted = [(len(each.cores), [visible[gpu] for gpu in each.gpus if gpu < len(visible)]) for each in here]
    found = pair(this_topology(visible), allowed, wanted)
    return None if found is None else found[process.local_index]
