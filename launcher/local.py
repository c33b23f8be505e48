"""Runs here and now: what would be done, doing it, and doing it again after an interruption."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.files import explained, write_json, write_whole
from saman.configs.schemas.script import Script
from saman.launcher.node.horovod_build import horovod_build, module_origin
from saman.launcher.node.machine import Node, open_mpi_without_ssh, this_node
from saman.launcher.node.mpi import find_mpi
from saman.launcher.node.provenance import provenance
from saman.launcher.plan.core_claims import CoreClaim, claimed
from saman.launcher.plan.environment import SEARCH_PATHS, clean_environment, forwarded, job_environment
from saman.launcher.plan.placement import Placement, place
from saman.launcher.starters.choose import make_start
from saman.launcher.starters.start import MachineFacts, RankProgram, Start
from saman.launcher.supervision.outcome import Outcome
from saman.launcher.supervision.run_lock import alone
from saman.launcher.supervision.supervisor import SupervisionOptions, supervise
from saman.launcher.supervision.views import View
from saman.runs.events import State
from saman.runs.folder import RunFolder

if TYPE_CHECKING:
    from saman.configs.loading.experiments import LoadedExperiment
    from saman.configs.schemas.experiment import Experiment


@dataclass(frozen=True)
class Options:
    """What the caller decides beside the experiment. ``nodes`` are those of an allocation; this machine by default."""

    runs_dir: Path = Path("runs")
    nodes: tuple[Node, ...] | None = None
    all_ranks: bool = False
    command_line: tuple[str, ...] = ()
    facts: MachineFacts | None = None


@dataclass(frozen=True)
class LaunchPlan:
    """What a start would do: placement, commands, and sentences that explain both."""

    spec: Experiment | Script
    directory: Path
    placement: Placement
    start: Start
    environment: Mapping[str, str]
    facts: MachineFacts

    @property
    def notes(self) -> tuple[str, ...]:
        """Everything a person should know about how the ranks are placed and started."""
        return (*self.placement.notes, *self.start.notes)

    def command_text(self, run: Path) -> str:
        """The exact command, for a shell."""
        return self.start.text(run)


def run_locally(loaded: LoadedExperiment, options: Options, view: View | None = None) -> Outcome:
    """Train an experiment here, now. Raises ``UserError`` before anything is started, or ``EnvironmentLack``."""
    return _run_new(loaded.experiment, Path.cwd(), loaded.code_path, options, view)


def run_script(spec: Script, options: Options, view: View | None = None) -> Outcome:
    """Start somebody's own program on every rank, from the folder that its spec names."""
    check_legacy_keras(spec)
    return _run_new(spec, Path(spec.directory), (), options, view)


def resume_locally(run: RunFolder, options: Options, view: View | None = None, ranks: int | None = None) -> Outcome:
    """Continue a run in its own folder as the next attempt, on another number of ``ranks`` where that is given.

    Raises ``UserError`` where it has completed or is running, or cannot be split over so many ranks.
    """
    if run.state is State.COMPLETED:
        raise UserError("this run has completed", where=str(run.path), remedy="saman run starts a new one")
    spec = run.spec() if ranks is None else _on_ranks(run.spec(), ranks)
    directory = Path(spec.directory) if isinstance(spec, Script) else _recorded_directory(run)
    with alone(run):
        return _attempt(run, spec, directory, run.code_path, options, view)


def _on_ranks(spec: Experiment | Script, ranks: int) -> Experiment | Script:
    from saman.configs.loading.experiments import with_ranks
    from saman.configs.problems import validated

    return validated(type(spec), with_ranks(spec.resolved(), ranks), "experiment.yaml with -np")


def script_name(command: Sequence[str]) -> str:
    """A name for the runs of a program: that of its script, of its module, or its own."""
    named = command[0] if command else "script"
    if is_python(named):
        rest = list(command[1:])
        if "-m" in rest[:-1]:
            named = rest[rest.index("-m") + 1].rsplit(".", 1)[-1]
        else:
            named = next((one for one in rest if one.endswith(".py")), "python")
    stem = Path(named).name.removesuffix(".py")
    clean = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in stem)
    return clean.strip("._-")[:64] or "script"


def is_python(program: str) -> bool:
    """Whether a program's name is that of a Python interpreter."""
    return Path(program).name.startswith("python")


def check_legacy_keras(spec: Script) -> None:
    """Raise ``EnvironmentLack`` where Keras 2 is asked for and the program's Python has none."""
    if not spec.legacy_keras:
        return
    python = _interpreter(spec.command, script_path(os.environ)[0])
    if python is not None and module_origin("tf_keras", python) is None:
        raise EnvironmentLack(
            f"--legacy-keras needs the package tf_keras, which {python} does not have",
            remedy="pip install --no-deps tf_keras, in TensorFlow's version (else a second TensorFlow comes along)",
        )


def make_plan(
    spec: Experiment | Script,
    directory: Path,
    code_path: Iterable[Path],
    options: Options,
    run: Path | None = None,
    attempt: int = 1,
) -> LaunchPlan:
    """What a start would do; nothing is written. Without ``run`` the command names a folder called RUN.

    Raises ``UserError`` or ``EnvironmentLack`` where it cannot be done.
    """
    path, note = script_path(os.environ) if isinstance(spec, Script) else (_own_path(os.environ), None)
    inherited = clean_environment({**os.environ, "PATH": path}, Path.cwd())
    nodes = options.nodes or (this_node(),)
    placement = place(spec.resources, spec.devices_per_process, nodes)
    command, horovod, python = _program(spec, run or options.runs_dir.absolute() / spec.name / "RUN", path)
    facts = options.facts or gather_facts(python, inherited)
    moved = {name: inherited[name] for name in SEARCH_PATHS if inherited.get(name) != os.environ.get(name)}
    environment = moved | open_mpi_without_ssh(inherited) | job_environment(spec, directory, code_path, os.environ)
    job = RankProgram(
        run or options.runs_dir.absolute() / spec.name / "RUN",
        attempt,
        command,
        environment,
        horovod and (facts.horovod is not None or facts.mpi is not None or not isinstance(spec, Script)),
    )
    start = make_start(spec.launch.starter, placement, job, facts)
    if note:
        start = replace(start, notes=(*start.notes, note))
    return LaunchPlan(spec, directory, placement, start, inherited, facts)


def gather_facts(python: str | None = None, environ: Mapping[str, str] | None = None) -> MachineFacts:
    """What is known of this machine; ``python`` is the interpreter whose Horovod counts, and the MPI beside it."""
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
    )


def script_path(environ: Mapping[str, str]) -> tuple[str, str | None]:
    """PATH for ranks, and what to say about it.

    Where no environment is active, saman's own comes first, so that ``python`` is the one that has Horovod.
    """
    path = environ.get("PATH", os.defpath)
    beside = str(Path(sys.executable).parent)
    if "VIRTUAL_ENV" in environ or "CONDA_PREFIX" in environ or beside in path.split(os.pathsep):
        return path, None
    return beside + os.pathsep + path, f"no environment is active; python is {beside}/python"


def _own_path(environ: Mapping[str, str]) -> str:
    """PATH with saman's own environment first: horovodrun takes the first mpirun, and it must be Horovod's."""
    path, beside = environ.get("PATH", os.defpath).split(os.pathsep), str(Path(sys.executable).parent)
    return os.pathsep.join([beside, *(entry for entry in path if entry != beside)])


def _program(spec: Experiment | Script, run: Path, path: str) -> tuple[tuple[str, ...], bool, str | None]:
    """The command of each process, whether it may use Horovod, and the Python whose Horovod that is."""
    if isinstance(spec, Script):
        return tuple(spec.command), True, _interpreter(spec.command, path)
    return (sys.executable, "-m", "saman.trainers.worker", str(run)), spec.uses_horovod, None


def _interpreter(command: Sequence[str], path: str) -> str | None:
    return shutil.which(command[0], path=path) if is_python(command[0]) else None


def _recorded_directory(run: RunFolder) -> Path:
    created = next((event for event in run.events() if event.kind == "created"), None)
    recorded = created.facts.get("directory") if created else None
    return Path(recorded) if recorded and Path(recorded).is_dir() else Path.cwd()


def _run_new(
    spec: Experiment | Script, directory: Path, code_path: tuple[Path, ...], options: Options, view: View | None
) -> Outcome:
    plan = make_plan(spec, directory, code_path, options)  # refuses before a folder is made
    options = replace(options, facts=plan.facts)
    folders = [str(folder) for folder in code_path]
    run = RunFolder.create(options.runs_dir, spec, code_path=folders, directory=str(directory))
    with alone(run):
        return _attempt(run, spec, directory, code_path, options, view)


def _attempt(
    run: RunFolder,
    spec: Experiment | Script,
    directory: Path,
    code_path: tuple[Path, ...],
    options: Options,
    view: View | None,
) -> Outcome:
    run.withdraw_stop()
    attempt = run.new_attempt()
    plan = make_plan(spec, directory, code_path, options, run.path, attempt.number)

    def say(note: str) -> None:
        run.append("notice", "supervisor", attempt.number, text=note)
        if view is not None:
            view.say(note)

    with explained(run.path, "the run folder"):
        write_json(attempt.placement, plan.placement.to_json())
        write_whole(attempt.command, plan.command_text(run.path))
        facts = provenance(options.command_line or sys.argv, directory, plan.facts.mpi, start_method=plan.start.starter)
        write_json(attempt.provenance, facts)
        for note in plan.notes:
            say(note)
    watching = SupervisionOptions(
        stall_seconds={str(phase): limit for phase, limit in spec.launch.stall_seconds.items()},
        abort_on_stall=spec.launch.on_stall == "abort",
        all_ranks=options.all_ranks,
        is_script=run.is_script,
    )
    # Inside an allocation the cores are Slurm's to give.
    with nullcontext(CoreClaim()) if plan.facts.in_allocation else claimed(plan.placement) as claim:
        if claim.note is not None:
            say(claim.note)
        environ = {**plan.environment, "SAMAN_CORES": ",".join(map(str, claim.cores))}
        return supervise(run, attempt, plan.start, plan.placement, environ, watching, view)
