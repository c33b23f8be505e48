"""Plans a start: placement, command and environment of the ranks. Writes nothing."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.private_values import private_variables
from saman.configs.schemas.script import Script
from saman.configs.schemas.training import OVER_GRPC
from saman.launcher.keras_interface import refuse_silent_horovod
from saman.launcher.node.horovod_build import horovod_build
from saman.launcher.node.machine import Node, open_mpi_without_ssh, other_users, this_node
from saman.launcher.node.mpi import find_mpi
from saman.launcher.plan.contract import contract_note
from saman.launcher.plan.environment import (
    SEARCH_PATHS,
    clean_environment,
    forwarded,
    job_environment,
    threads_per_process,
)
from saman.launcher.plan.horovod_engine import engine_variables
from saman.launcher.plan.place import place
from saman.launcher.plan.placement import Placement
from saman.launcher.plan.roles import roles_note, serving_processes
from saman.launcher.plan.shared_node import check_shared_node
from saman.launcher.programs import own_path, program_command, script_path
from saman.launcher.starters.choose import make_start
from saman.launcher.starters.components import component_commands, component_variables
from saman.launcher.starters.start import MachineFacts, RankProgram, Start
from saman.runs.paths.run import RunPaths
from saman.runs.paths.runs_folder import planned_run

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """Choices of the caller beside the experiment. ``nodes`` are those of an allocation; this machine by default."""

    runs_dir: Path = Path("runs")
    nodes: tuple[Node, ...] | None = None
    all_ranks: bool = False
    command_line: tuple[str, ...] = ()
    facts: MachineFacts | None = None


@dataclass(frozen=True)
class LaunchPlan:
    """A planned start: placement, commands, and the notes that explain both."""

    spec: Experiment | Script
    directory: Path
    placement: Placement
    start: Start
    environment: Mapping[str, str]
    facts: MachineFacts

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks for the user on the placement and the start of ranks."""
        return (*self.placement.notes, *self.start.notes)

    def command_text(self, run: Path) -> str:
        """The exact command, for a shell; private values are left out, and named."""
        return self.start.without_variables(private_variables(self.spec.written())).text(run)


def make_plan(
    spec: Experiment | Script,
    directory: Path,
    code_path: Iterable[Path],
    options: Options,
    run: Path | None = None,
    attempt: int = 1,
) -> LaunchPlan:
    """Plan a start; nothing is written.

    Args:
        spec: the experiment, or a program.
        directory: working directory of the ranks.
        code_path: folders of the user's code, last on ``sys.path``.
        options: nodes, folder of the runs, facts of the machine.
        run: the run folder; without it the command names a folder called RUN.
        attempt: number of the start.

    Raises:
        UserError: the ranks do not fit the nodes, or the start method does not suit the experiment.
        EnvironmentLack: the machine lacks what the start needs.
    """
    path, note = script_path(os.environ) if isinstance(spec, Script) else (own_path(os.environ), None)
    inherited = clean_environment({**os.environ, "PATH": path}, Path.cwd())
    nodes = options.nodes or (this_node(),)
    elastic = spec.launch.elastic
    placement = place(spec.resources, spec.devices_per_process, nodes, elastic.warm_spares if elastic else 0)
    folder = run or planned_run(options.runs_dir, spec.name)
    program = program_command(spec, folder, path)
    if isinstance(spec, Script):
        refuse_silent_horovod(spec, directory, program.python)
    facts = options.facts or gather_facts(program.python, inherited)
    moved = {name: inherited[name] for name in SEARCH_PATHS if inherited.get(name) != os.environ.get(name)}
    threads = threads_per_process(spec.resources, spec.devices_per_process, placement.cores_per_rank)
    own = _engine(spec, folder, attempt) | job_environment(spec, directory, code_path, os.environ, threads)
    environment = moved | open_mpi_without_ssh(inherited) | own
    can_use_horovod = facts.horovod is not None or facts.mpi is not None or not isinstance(spec, Script)
    job = RankProgram(folder, attempt, program.argv, environment, program.may_use_horovod and can_use_horovod)
    components = spec.resources.components
    loses_workers = serving_processes(spec) is not None
    job = replace(job, elastic=elastic.max if elastic else 0, loses_workers=loses_workers)
    job = replace(job, environment={**job.environment, **component_variables(components, placement, facts)})
    start = make_start(spec.launch.starter, placement, job, facts)
    beside = component_commands(components, job, facts, directory)
    start = replace(start, companions=(*start.companions, *beside))
    _log.debug("%s: %d ranks on %s, %s", spec.name, placement.size, ", ".join(placement.nodes), "; ".join(start.notes))
    notes = [note, _shared_node_note(spec, facts), roles_note(spec), contract_note(spec)]
    start = replace(start, notes=(*start.notes, *(text for text in notes if text)))
    return LaunchPlan(
        spec=spec, directory=directory, placement=placement, start=start, environment=inherited, facts=facts
    )


def _engine(spec: Experiment | Script, run: Path, attempt: int) -> dict[str, str]:
    """The settings of Horovod's engine; files that it writes stand in the attempt's folder."""
    files = RunPaths(run).attempt(attempt)
    return engine_variables(spec.launch.horovod, files.timeline.absolute(), files.autotune_log.absolute())


def _shared_node_note(spec: Experiment | Script, facts: MachineFacts) -> str | None:
    listens = spec.launch.tf_config is not None if isinstance(spec, Script) else spec.train.strategy in OVER_GRPC
    strategy = "multi_worker" if isinstance(spec, Script) else spec.train.strategy
    users = other_users() if listens else ()
    return check_shared_node(strategy, users, facts.in_allocation)


def gather_facts(python: str | None = None, environ: Mapping[str, str] | None = None) -> MachineFacts:
    """Gather what planning needs of this machine; ``python`` is the interpreter with the ranks' Horovod and MPI."""
    environ = os.environ if environ is None else environ
    path = environ.get("PATH", os.defpath)
    beside = Path(python or sys.executable).parent
    return MachineFacts(
        python=sys.executable,
        mpi=find_mpi(environ, beside),
        horovod=horovod_build(python),
        horovodrun=shutil.which("horovodrun", path=os.pathsep.join([str(beside), path])),
        srun=shutil.which("srun", path=path),
        in_allocation="SLURM_JOB_ID" in environ,
        is_root=os.geteuid() == 0,
        forward=forwarded(environ),
        # A step inside a step (`srun --pty bash`) waits for ever for cores that the outer step holds.
        srun_options=("--overlap",) if environ.get("SLURM_STEP_ID") else (),
    )
