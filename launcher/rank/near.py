"""The cores and the adapter near a process's GPUs, on the node where it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from saman.launcher.node.machine import visible_gpus
from saman.launcher.plan.placement import Seat
from saman.launcher.topology.look import this_topology
from saman.launcher.topology.pairing import Pairing, pair


def paired(seat: Seat | None, allowed: Sequence[int], environ: Mapping[str, str]) -> Pairing | None:
    """Where this rank runs nearest to its GPUs; every rank of the node comes to the same answer for all of them.

    Args:
        seat: the planned seat of this process; ``None`` if the process was started by hand.
        allowed: the logical cores that the run may use on this node.
        environ: the variables of this process; they name the visible GPUs.

    Returns:
        ``None`` if the process is not to be pinned, is pinned already, or nothing is known of the node: then the
        placement's own order of cores counts.
    """
    if seat is None or not seat.process.cores or len(allowed) <= len(seat.process.cores):
        return None
    here = seat.here
    visible = visible_gpus(environ) if any(each.gpus for each in here) else []
    wanted = [(len(each.cores), [visible[gpu] for gpu in each.gpus if gpu < len(visible)]) for each in here]
    if "SLURM_JOB_ID" not in environ:  # the run's locks keep the first cores from other runs (plan/core_claims.py)
        allowed = allowed[: sum(count for count, _ in wanted)]
    found = pair(this_topology(visible), allowed, wanted)
    return None if found is None else found[seat.process.local_index]
