"""``saman run`` inside an allocation that was made by hand (``salloc``, ``sbatch``): its nodes and what they offer."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace

from saman.configs.loading.experiments import LoadedExperiment
from saman.configs.schemas.script import Script
from saman.launcher.node.machine import Node, same_node
from saman.launcher.planning import Options
from saman.slurm.job.allocation import allocation


def is_inside(environ: Mapping[str, str]) -> bool:
    """Whether this process belongs to a Slurm job with a list of nodes."""
    return bool(environ.get("SLURM_JOB_ID")) and bool(environ.get("SLURM_JOB_NODELIST"))


def nodes_of_allocation(environ: Mapping[str, str], host: str | None = None) -> tuple[Node, ...]:
    """The nodes of this allocation, by Slurm's variables.

    Under ``salloc`` this process may run on the login node: ranks are pinned only if it runs on an allocated node.

    Args:
        environ: the variables of this process.
        host: the name of this machine; ``None`` asks for it.
    """
    here = allocation(environ, gpus_per_node(environ))
    name = host or environ.get("SLURMD_NODENAME") or socket.gethostname()
    if any(same_node(node, name) for node in here.nodes):
        return here.offers()
    return tuple(replace(node, pinnable=False, notes=()) for node in here.offers())


def gpus_per_node(environ: Mapping[str, str]) -> int:
    """The GPUs on each node of this allocation; asks the controller if the variables do not say it."""
    listed = environ.get("SLURM_GPUS_ON_NODE") or environ.get("SLURM_GPUS_PER_NODE") or ""
    if number := re.search(r"(\d+)$", listed):
        return int(number[1])
    if environ.get("SLURM_JOB_GPUS"):
        return len(environ["SLURM_JOB_GPUS"].split(","))
    from saman.slurm.site import client

    return gpus_of_job(client.show_job(environ.get("SLURM_JOB_ID", "")))


def gpus_of_job(shown: Mapping[str, str]) -> int:
    """The GPUs on each node by the fields of ``scontrol show job``: the total, divided by the nodes."""
    total = re.search(r"gres/gpu=(\d+)", shown.get("TRES", "") + "," + shown.get("AllocTRES", ""))
    nodes = shown.get("NumNodes", "1").split("-")[0]
    return int(total[1]) // max(1, int(nodes)) if total and nodes.isdigit() else 0


def spread(ranks: int, nodes: Sequence[Node]) -> int:
    """The number of nodes for ``-np RANKS``: all of the allocation if the ranks divide evenly, else 1."""
    return len(nodes) if ranks % len(nodes) == 0 else 1


def with_allocation(
    what: LoadedExperiment | Script,
    options: Options,
    ranks: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> tuple[LoadedExperiment | Script, Options]:
    """Plan on the nodes of the allocation around this process; outside an allocation nothing changes.

    Args:
        what: the experiment or program.
        options: the options of the start.
        ranks: ``-np``; the ranks are spread over all nodes if they divide evenly and ``resources.nodes`` is 1.
        environ: the variables of this process; ``None`` for the real variables.
    """
    environ = os.environ if environ is None else environ
    if options.nodes is not None or not is_inside(environ):
        return what, options
    options = replace(options, nodes=nodes_of_allocation(environ))
    assert options.nodes is not None
    spec = what if isinstance(what, Script) else what.experiment
    nodes = 1 if ranks is None or spec.resources.nodes > 1 else spread(ranks, options.nodes)
    if ranks is None or nodes == 1:
        return what, options
    resources = spec.resources.model_copy(update={"nodes": nodes, "ranks_per_node": ranks // nodes})
    if isinstance(what, Script):
        return what.model_copy(update={"resources": resources}), options
    return replace(what, experiment=what.experiment.model_copy(update={"resources": resources})), options
