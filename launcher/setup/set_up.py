"""Performs a set-up: checks the machine, does the outstanding steps, and records each finished step."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.launcher.node.machine import open_mpi_without_ssh
from saman.launcher.setup import horovod_source, machine, packages, pythons, stamp
from saman.launcher.setup.carry_out import ProgressLine, environment_of, run_logged
from saman.launcher.setup.pythons import Python
from saman.launcher.setup.stacks import SetupRequest
from saman.launcher.setup.steps import CHECK, SetupStep, plan, saman_arguments, source_tree, step_digest
from saman.runs import caches

LOG = "saman-setup.log"


@dataclass(frozen=True)
class SetupPlan:
    """The steps of a set-up; ``todo`` are the outstanding steps."""

    python: Python
    steps: list[SetupStep]
    todo: list[SetupStep]


def prospect(request: SetupRequest) -> SetupPlan:
    """Plan the set-up for ``request``; raises UserError or EnvironmentLack before anything is written or downloaded."""
    refuse_unsafe_path(request.venv)
    found = stamp.read(request.venv)
    refuse_foreign(request, found)
    python, others = _python(request, found)
    steps = plan(request, python) if python else []
    todo = remaining(steps, found, in_place=request.in_place)
    if python is None or todo:
        cache = caches.cache_folder()
        built = python is not None and horovod_source.is_built(request, python)
        missing = machine.lacks(request, python, others, cache, build=not built)
        if missing:
            missing[0].others = tuple(missing[1:])
            raise missing[0]
    assert python
    return SetupPlan(python, steps, todo)


def _python(request: SetupRequest, found: stamp.Stamp | None) -> tuple[Python | None, list[Python]]:
    """The Python of a finished environment, unless another is requested: PATH may have changed."""
    if found and not request.python and not request.in_place and "environment" in found.finished:
        present = pythons.of_environment(request.venv)
        if present and present.suits(request.stack):
            return present, []
    return machine.choose_python(request)


def remaining(steps: list[SetupStep], found: stamp.Stamp | None, *, in_place: bool) -> list[SetupStep]:
    """The outstanding steps; all of them after an interrupted set-up, because its leftovers are not trusted.

    Args:
        steps: all steps of the set-up, in order.
        found: the record of the previous set-up; ``None`` if there is none.
        in_place: whether saman's own environment is set up; its finished steps count even after an interruption.
    """
    if found is None or (found.begun and not in_place):
        return steps
    todo = [step for step in steps if not found.holds(step.name, step.key)]
    return steps if any(step.name == "environment" for step in todo) else todo


def refuse_unsafe_path(venv: Path) -> None:
    """Refuse a path that breaks pip's command scripts (a shell reads it in double quotes) or PATH (split at colons)."""
    bad = sorted({repr(letter) for letter in str(venv) if letter in '"$`\\:\n'})
    if bad:
        problem = f"commands cannot be started from a folder with {' or '.join(bad)} in its name"
        raise UserError(problem, where=str(venv), remedy="move the clone, or name another folder with --venv")


def refuse_foreign(request: SetupRequest, found: stamp.Stamp | None) -> None:
    """Refuse to overwrite an environment or folder that ``saman setup`` did not create."""
    venv = request.venv
    if request.in_place or found or not venv.exists() or (venv.is_dir() and not any(venv.iterdir())):
        return
    remedy = "choose another folder with --venv, or remove this folder"
    raise UserError("already exists and was not created by saman setup", where=str(venv), remedy=remedy)


def set_up(request: SetupRequest, progress: ProgressLine) -> bool:
    """Do the outstanding steps; returns whether there were any. Raises UserError or EnvironmentLack."""
    if not prospect(request).todo:
        return False
    cache = caches.cache_folder()
    name = f"environment-{step_digest(str(request.venv))}"
    with caches.hold_user_lock(name, cache, lambda: progress.say(f"waiting for another set-up of {request.venv}")):
        now = prospect(request)  # the other set-up may have finished it
        for step in now.todo:
            _do(step, request, now.python, progress)
    return bool(now.todo)


def _do(step: SetupStep, request: SetupRequest, python: Python, progress: ProgressLine) -> None:
    if step.name == "environment":
        _clear(request.venv)
    found = replace(stamp.read(request.venv) or stamp.Stamp(), mpi=request.mpi, gpu=request.gpu)
    stamp.write(request.venv, found.beginning(step.name))
    progress.begin(step.title)
    work = {"environment": _environment, "packages": _packages, "saman": _saman, "horovod": _horovod}[step.name]
    try:
        work(request, python, request.venv / LOG, progress)
    except EnvironmentLack:
        if step.name == "horovod":  # a failed build leaves the environment unchanged, so the next set-up continues here
            stamp.write(request.venv, replace(found.beginning(step.name), begun=None))
        raise
    progress.end()
    stamp.write(request.venv, found.beginning(step.name).ending(step.name, step.key))


def _clear(venv: Path) -> None:
    """Replace the environment by an empty folder; refuse_foreign has ruled out anything else."""
    if venv.exists():
        shutil.rmtree(venv)
    venv.mkdir(parents=True)


def _environment(request: SetupRequest, python: Python, log: Path, progress: ProgressLine) -> None:
    run_logged([python.executable, "-m", "venv", str(request.venv)], log, progress, env=environment_of(request.venv))


def _packages(request: SetupRequest, python: Python, log: Path, progress: ProgressLine) -> None:
    text = packages.requirements(request)
    with tempfile.TemporaryDirectory(prefix="saman-setup-") as scratch:
        exact = Path(scratch) / "exact.txt"
        exact.write_text(text, "utf-8")
        install = ["install", "--quiet", "--no-deps", "--require-hashes", "-r", str(exact)]
        _pip(request, log, progress, install)
        if request.gpu:
            limits = Path(scratch) / "limits.txt"
            limits.write_text(packages.constraints(text), "utf-8")
            wanted = f"tensorflow[and-cuda]=={request.stack.tensorflow}"
            _pip(request, log, progress, ["install", "--quiet", "-c", str(limits), wanted])


def _saman(request: SetupRequest, python: Python, log: Path, progress: ProgressLine) -> None:
    tree = source_tree()
    assert tree  # steps.saman_step refused otherwise
    _pip(request, log, progress, ["--quiet", *saman_arguments(tree)])


def _horovod(request: SetupRequest, python: Python, log: Path, progress: ProgressLine) -> None:
    wheel = horovod_source.provide(request, python, log, progress)
    _pip(request, log, progress, ["install", "--quiet", "--no-deps", "--force-reinstall", str(wheel)])
    command = [str(request.venv / "bin" / "python"), "-c", CHECK]
    # The MPI wheel finds its own files by OPAL_PREFIX, which mpirun sets; a process started without mpirun has to.
    prefix = {"OPAL_PREFIX": str(request.venv)} if request.mpi == "wheel" else {}
    env = environment_of(request.venv)
    run_logged(command, log, progress, env={**env, **open_mpi_without_ssh(env), **prefix}, cwd=request.venv)


def _pip(request: SetupRequest, log: Path, progress: ProgressLine, arguments: Sequence[str]) -> None:
    command = [str(request.venv / "bin" / "python"), "-m", "pip", *arguments]
    run_logged(command, log, progress, env=environment_of(request.venv))
