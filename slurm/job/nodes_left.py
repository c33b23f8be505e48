"""Fits a run to the nodes that a job has left: spare nodes first, else the same steps on fewer nodes. Pure."""

from __future__ import annotations

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script


def on_nodes(spec: Experiment | Script, nodes: int) -> Experiment | Script | None:
    """The run on at most ``nodes`` nodes; ``None`` if it cannot run on so few.

    An experiment keeps its global batch, and so takes the same steps on fewer ranks. What a user's own program would
    do on fewer ranks is not known, so it needs all of its nodes.

    Args:
        spec: The experiment or script as it was submitted.
        nodes: The nodes that are left; those beyond ``resources.nodes`` stay spare.
    """
    if nodes >= spec.resources.nodes:
        return spec
    if isinstance(spec, Script):
        return None
    counts = (_with_nodes(spec, count) for count in range(nodes, 0, -1))
    return next((fitting for fitting in counts if fitting is not None), None)


def _with_nodes(spec: Experiment, nodes: int) -> Experiment | None:
    values = spec.resolved()
    values["resources"]["nodes"] = nodes
    values["train"]["global_batch_size"] = spec.global_batch_size
    values["train"]["batch_size_per_rank"] = None
    if elastic := values["launch"]["elastic"]:
        most = nodes * spec.resources.ranks_per_node
        elastic |= {"max": most, "min": min(elastic["min"], most)}
    try:
        return validated(Experiment, values, "experiment.yaml on fewer nodes")
    except UserError:
        return None
