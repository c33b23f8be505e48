"""Roles of processes in a plan: what TF_CONFIG will say. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from saman.configs.schemas.script import Script
from saman.runs.tf_cluster.roles import Roles

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment


def roles_note(spec: Experiment | Script) -> str | None:
    """Return a sentence on the roles of the ranks; ``None`` if all ranks are equal."""
    if isinstance(spec, Script):
        asked, ranks = spec.launch.tf_config, spec.resources.ranks
        if asked is None:
            return None
        tasks = Roles(asked.chief, asked.servers, asked.evaluator).tasks(ranks)
        return "TF_CONFIG: " + ", ".join(f"rank {rank} is {task}" for rank, task in enumerate(tasks))
    return None
