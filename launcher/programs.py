"""The program that each rank runs: its name, its Python interpreter and the PATH that finds both."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.loading.files import overridden
from saman.configs.schemas.script import Script
from saman.launcher.node.horovod_build import module_origin
from saman.runs.commands import is_python

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment


@dataclass(frozen=True)
class ProgramCommand:
    """The command of each process. ``python`` is the interpreter with the ranks' Horovod, if not saman's own."""

    argv: tuple[str, ...]
    may_use_horovod: bool
    python: str | None = None


def program_command(spec: Experiment | Script, run: Path, path: str) -> ProgramCommand:
    """The command that each process runs.

    Args:
        spec: the experiment or script.
        run: the run folder.
        path: the search path (``PATH``) for a script's program.
    """
    if isinstance(spec, Script):
        return ProgramCommand(tuple(spec.command), True, _interpreter(spec.command, path))
    return ProgramCommand((sys.executable, "-m", "saman.trainers.worker", str(run)), spec.uses_horovod)


def script_from_command(
    command: Sequence[str],
    overrides: Sequence[str] = (),
    ranks: int | None = None,
    legacy_keras: bool = False,
    directory: Path | None = None,
) -> Script:
    """Describe a user's program as a run, named after its script.

    Args:
        command: the program and its arguments.
        overrides: ``KEY=VALUE`` changes of ``resources`` and ``launch``.
        ranks: number of ranks, as ``-np`` gives it.
        legacy_keras: whether the program needs Keras 2.
        directory: working directory of the ranks; default: the current directory.

    Raises:
        UserError: the command is empty, or an override does not fit.

    Example:
        >>> script_from_command(["python", "train.py", "--lr", "0.1"], ranks=4).name
        'train'
    """
    from saman.configs.loading.experiments import with_ranks
    from saman.configs.problems import validated

    if not command:
        raise UserError("no program after --", remedy="saman run -np 4 -- python their_script.py")
    values = {
        "name": script_name(command),
        "command": list(command),
        "directory": str(directory or Path.cwd()),
        "legacy_keras": legacy_keras,
    }
    values = overridden(values, list(overrides))
    return validated(Script, values if ranks is None else with_ranks(values, ranks), "command line")


def with_absolute_files(spec: Script) -> Script:
    """``spec`` for a start in the run folder: arguments that name files of the user's folder name them absolutely.

    Under another ``launch.directory`` nothing changes.
    """
    if spec.launch.directory != "run":
        return spec
    folder = Path(spec.directory)
    command = [
        str(folder / word) if "/" not in word[:1] and (folder / word).is_file() else word for word in spec.command
    ]
    return spec.model_copy(update={"command": command})


def script_name(command: Sequence[str]) -> str:
    """Name the runs of a user's program after its script, its module or itself."""
    named = command[0] if command else "script"
    if is_python(named):
        rest = list(command[1:])
        if "-m" in rest[:-1]:
            named = rest[rest.index("-m") + 1].rsplit(".", 1)[-1]
        else:
            named = next((word for word in rest if word.endswith(".py")), "python")
    stem = Path(named).name.removesuffix(".py")
    clean = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "-" for letter in stem)
    return clean.strip("._-")[:64] or "script"


def refuse_program(words: Sequence[str], command: str) -> None:
    """Raise ``UserError`` if the first word names a user's program instead of an experiment: ``--`` was forgotten.

    Args:
        words: the arguments of the command.
        command: the command, such as ``saman run``.
    """
    first = words[0] if words else ""
    if is_python(first) or first.endswith((".py", ".sh")) or ("." not in first and shutil.which(first) is not None):
        program = f"python {first}" if first.endswith(".py") else first
        raise UserError(
            f"{first!r} is a program, not an experiment",
            where=command,
            remedy=f"put -- before the program: {command} … -- {program} …",
        )


def check_legacy_keras(spec: Script) -> None:
    """Raise ``EnvironmentLack`` if the user's program needs Keras 2 and its Python has none."""
    if not spec.legacy_keras:
        return
    python = _interpreter(spec.command, script_path(os.environ)[0])
    if python is not None and module_origin("tf_keras", python) is None:
        raise EnvironmentLack(
            f"--legacy-keras needs the package tf_keras, which {python} does not have",
            remedy="pip install --no-deps tf_keras, in TensorFlow's version (else pip adds a second TensorFlow)",
        )


def script_path(environ: Mapping[str, str]) -> tuple[str, str | None]:
    """PATH for the ranks of a program, and a note for the user.

    If no environment is active, saman's own comes first, so that ``python`` is the interpreter with Horovod.
    """
    path = environ.get("PATH", os.defpath)
    beside = str(Path(sys.executable).parent)
    if "VIRTUAL_ENV" in environ or "CONDA_PREFIX" in environ or beside in path.split(os.pathsep):
        return path, None
    return beside + os.pathsep + path, f"no environment is active; python is {beside}/python"


def own_path(environ: Mapping[str, str]) -> str:
    """PATH for a user's program, saman's environment first: its mpirun must be that of Horovod."""
    path, beside = environ.get("PATH", os.defpath).split(os.pathsep), str(Path(sys.executable).parent)
    return os.pathsep.join([beside, *(entry for entry in path if entry != beside)])


def _interpreter(command: Sequence[str], path: str) -> str | None:
    return shutil.which(command[0], path=path) if is_python(command[0]) else None
