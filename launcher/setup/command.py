"""The command line of ``saman setup``: options to a request, and the result to lines on the terminal."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import cast

from saman.configs.errors import ExitCode, UserError, choices
from saman.configs.home_folder import in_home
from saman.launcher.setup import stamp
from saman.launcher.setup.carry_out import ProgressLine
from saman.launcher.setup.set_up import SetupPlan, prospect, set_up
from saman.launcher.setup.stacks import COMPAT, CURRENT, STACKS, Mpi, SetupRequest
from saman.launcher.setup.steps import source_tree
from saman.runs import caches

GPU_NOTE = "note: the NCCL build follows Horovod's documentation; it has not been tested by this project"


def make_request(
    *,
    venv: Path | None = None,
    python: str | None = None,
    tensorflow: str | None = None,
    compat: bool = False,
    mpi: str | None = None,
    gpu: bool | None = None,
) -> SetupRequest:
    """The request to ``saman setup`` with these options.

    ``None`` for ``mpi`` or ``gpu`` keeps the choice of the previous set-up, so that ``make demo`` does not change it.

    Args:
        venv: the environment's folder; ``None`` for the default.
        python: a path or a name on PATH; ``None`` for any suitable Python.
        tensorflow: a TensorFlow version with a tested stack.
        compat: whether to use the stack ``COMPAT``.
        mpi: ``wheel`` or ``system``.
        gpu: whether to build Horovod with NCCL.

    Raises:
        UserError: The options are impossible.
    """
    name = tensorflow or (COMPAT if compat else CURRENT).name
    if name not in STACKS or (compat and name != COMPAT.name):
        valid = [COMPAT.name] if compat else list(STACKS)
        raise UserError(f"TensorFlow {name!r} is not tested", where="--tensorflow", remedy=choices(name, valid))
    if mpi not in (None, "wheel", "system"):
        raise UserError(f"unknown MPI {mpi!r}", where="--mpi", remedy=choices(mpi, ("wheel", "system")))
    stack = STACKS[name]
    in_place = source_tree() is None
    if in_place:
        if venv is not None and venv.absolute() != Path(sys.prefix):
            remedy = f"python3 -m venv {venv} && {venv}/bin/pip install saman && {venv}/bin/saman setup"
            raise UserError("an installed saman sets up its own environment", where="--venv", remedy=remedy)
        if sys.prefix == sys.base_prefix:
            remedy = "python3 -m venv .venv && .venv/bin/pip install saman && .venv/bin/saman setup"
            raise UserError("saman is not installed in an environment of its own", remedy=remedy)
        where = Path(sys.prefix)
    else:
        where = in_home(venv or Path(".venv" if stack is CURRENT else ".venv-compat")).absolute()
    before = stamp.read(where) or stamp.Stamp()
    kind = cast(Mpi, mpi or before.mpi or "wheel")
    return SetupRequest(where, python, stack, kind, before.gpu if gpu is None else gpu, in_place)


def describe(ahead: SetupPlan, request: SetupRequest) -> list[str]:
    """The lines of a dry run: each step, its commands, and whether it is done."""
    lines = [f"environment: {request.venv} (cache: {caches.cache_folder()})"]
    for number, step in enumerate(ahead.steps, start=1):
        state = "" if step in ahead.todo else " (done)"
        lines += [f"{number}. {step.title}{state}", *(f"   {line}" for line in step.lines)]
    return lines + ([GPU_NOTE] if request.gpu else [])


def perform(request: SetupRequest, *, dry_run: bool = False, as_json: bool = False) -> bool:
    """Set up and print progress; print nothing if there is nothing to do.

    Args:
        request: the set-up.
        dry_run: whether to print the outstanding steps instead.
        as_json: whether to print JSON; progress then goes to standard error.

    Returns:
        Whether there was anything to do.

    Raises:
        UserError, EnvironmentLack: The set-up cannot be done; the error lists every problem found.
    """
    if dry_run:
        ahead = prospect(request)
        print(json.dumps(as_plain(ahead, request), indent=1) if as_json else "\n".join(describe(ahead, request)))
        return bool(ahead.todo)
    _leave_environment(request)
    signal.signal(signal.SIGTERM, _end_like_interrupt)
    progress = ProgressLine(say=(lambda line: print(line, file=sys.stderr, flush=True)) if as_json else _say)
    if request.gpu:
        progress.say(GPU_NOTE)
    done = set_up(request, progress)
    if as_json:
        print(json.dumps({"environment": str(request.venv), "changed": done}))
    elif done:
        progress.say(f"ready: {_short(request.venv)}/bin/saman")
    return done


def as_plain(ahead: SetupPlan, request: SetupRequest) -> dict[str, object]:
    """The dry run of ``saman setup`` as plain values."""
    steps = [
        {"name": step.name, "title": step.title, "done": step not in ahead.todo, "commands": list(step.lines)}
        for step in ahead.steps
    ]
    return {"environment": str(request.venv), "python": ahead.python.executable, "steps": steps}


def _say(line: str) -> None:
    print(line, flush=True)


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _leave_environment(request: SetupRequest) -> None:
    """Continue under the base Python if this Python runs in the environment that the set-up is about to remove."""
    if request.in_place or Path(sys.prefix) != request.venv:
        return
    ahead = prospect(request)
    tree = source_tree()
    if tree and any(step.name == "environment" for step in ahead.todo):
        base = ahead.python.executable
        environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
        os.execve(base, [base, "-m", "saman.launcher.setup", *words(request)], environment)


def words(request: SetupRequest) -> list[str]:
    """The options of ``saman setup`` that give ``request``."""
    chosen = ["--venv", str(request.venv), "--tensorflow", request.stack.name, "--mpi", request.mpi]
    chosen += ["--gpu" if request.gpu else "--no-gpu"]
    return chosen + (["--python", request.python] if request.python else [])


def _end_like_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def command(arguments: list[str]) -> None:
    """Run ``python3 -m saman.launcher.setup``; uses argparse, because typer is not installed yet."""
    parser = argparse.ArgumentParser(prog="saman setup", description="Build the environment that trains.")
    parser.add_argument("--venv", type=Path, help="where (default: .venv; .venv-compat with --compat)")
    parser.add_argument("--python", help="the Python to use (default: this Python, or a suitable Python on PATH)")
    parser.add_argument("--tensorflow", metavar="|".join(STACKS), help="which tested set (default: the first)")
    parser.add_argument("--compat", action="store_true", help="the same as --tensorflow " + COMPAT.name)
    parser.add_argument(
        "--mpi", metavar="wheel|system", help="a wheel (no root), or the MPI on PATH (default: as before, or wheel)"
    )
    nccl = "Horovod with NCCL, as upstream documents it (not tested; default: as before, or not)"
    parser.add_argument("--gpu", action=argparse.BooleanOptionalAction, help=nccl)
    parser.add_argument("--dry-run", action="store_true", help="print each step and do nothing")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print JSON")
    options = vars(parser.parse_args(arguments))
    dry_run, as_json = options.pop("dry_run"), options.pop("as_json")
    try:
        perform(make_request(**options), dry_run=dry_run, as_json=as_json)
    except UserError as error:
        for problem in (error, *error.others):
            print(f"error: {problem.one_line()}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("\ninterrupted; the next set-up starts from the beginning", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
