"""Starts of a run's components, the processes beside its ranks; each is a part of a heterogeneous job. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.components import JobComponent
from saman.launcher.plan.placement import Placement
from saman.launcher.starters.start import Command, MachineFacts, RankProgram
from saman.runs import variables

_HERE = "127.0.0.1"


def component_variables(
    components: Sequence[JobComponent], placement: Placement, facts: MachineFacts
) -> dict[str, str]:
    """Variables by which ranks and components find each other: the nodes of each, joined by commas.

    Raises:
        EnvironmentLack: this allocation has no part for each component.
    """
    if not components:
        return {}
    nodes = _nodes(components, facts)
    ranks = placement.nodes if facts.component_nodes else (_HERE,)
    found = {variables.NODES_OF_RANKS: ",".join(ranks)}
    return found | {
        variables.nodes_of(component.name): ",".join(where) for component, where in zip(components, nodes, strict=True)
    }


def component_commands(
    components: Sequence[JobComponent], job: RankProgram, facts: MachineFacts, directory: Path
) -> tuple[Command, ...]:
    """The commands that start the components.

    Args:
        components: what the experiment asks for.
        job: the program of the ranks; its variables are the components' too.
        facts: the machine; in a heterogeneous job, the nodes of every part but the ranks'.
        directory: the folder in which the programs run.
    """
    _nodes(components, facts)
    commands: list[Command] = []
    for group, component in enumerate(components, start=1):
        wrapper = (facts.python, "-m", "saman.launcher.component", str(job.run), str(job.attempt), str(directory))
        argv = (*wrapper, component.name, "--", *component.program)
        own = {
            **job.environment,
            variables.RUN: str(job.run),
            variables.ATTEMPT: str(job.attempt),
            variables.COMPONENT_TASKS: str(component.tasks),
        }
        if facts.component_nodes:
            argv = (facts.srun or "srun", *_srun_flags(component, group), *argv)
            commands.append(Command(argv, own, f"component {component.name}"))
            continue
        for task in range(component.tasks):
            numbered = {**own, variables.COMPONENT_TASK: str(task)}
            commands.append(Command(argv, numbered, f"component {component.name} (process {task})"))
    return tuple(commands)


def _srun_flags(component: JobComponent, group: int) -> list[str]:
    return [
        f"--het-group={group}",
        f"--nodes={component.nodes}",
        f"--ntasks={component.tasks}",
        f"--ntasks-per-node={component.tasks_per_node}",
        f"--cpus-per-task={component.cpus_per_task}",
        "--mem=0",  # all that this part of the job has; srun's default would be that of the ranks' part
        "--cpu-bind=none",
        "--mpi=none",
        "--export=ALL",
        "--kill-on-bad-exit=1",
        "--unbuffered",
    ]


def _nodes(components: Sequence[JobComponent], facts: MachineFacts) -> Sequence[Sequence[str]]:
    if facts.component_nodes:
        if len(facts.component_nodes) != len(components):
            raise EnvironmentLack(
                f"this job has {len(facts.component_nodes)} parts beside the ranks', not {len(components)}",
                where="resources.components",
                remedy="saman submit",
            )
        return facts.component_nodes
    if components and facts.in_allocation:
        raise EnvironmentLack(
            "this allocation has no part for the components", where="resources.components", remedy="saman submit"
        )
    return [(_HERE,)] * len(components)
