"""Fits a run on this machine to the Slurm allocation that it is typed in (``salloc``)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from saman.configs.loading.experiments import LoadedExperiment
from saman.configs.schemas.script import Script
from saman.launcher.planning import Options
from saman.slurm.job.interactive import is_inside, nodes_of_allocation, spread


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
        environ: the variables of this process; ``None`` for the real ones.
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
