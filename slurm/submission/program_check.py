"""Refuses a program that no compute node will find, before it waits in the queue."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.script import Script
from saman.launcher.programs import script_path
from saman.runs.commands import is_python
from saman.slurm.script.setup_lines import steps_of


def check_program(spec: Script, cluster: Cluster) -> None:
    """Refuse to submit a program or a Python script that does not exist.

    A name without a folder is looked up only if the cluster file loads no software: modules may bring it. Nothing is
    looked up for a container.
    """
    if cluster.container is not None:
        return
    program = spec.command[0]
    loads = bool(steps_of(cluster))
    if "/" in program:
        missing = not (Path(spec.directory) / program).is_file()
    else:
        missing = not loads and shutil.which(program, path=script_path(os.environ)[0]) is None
    if missing:
        raise UserError(
            f"no such program: {program!r}", where="command line, after --", remedy=f"a path from {spec.directory}"
        )
    script = _python_script(spec)
    if script is not None and not (Path(spec.directory) / script).is_file():
        raise UserError(
            f"no such file: {script}", where="command line, after --", remedy=f"a path from {spec.directory}"
        )


def _python_script(spec: Script) -> str | None:
    """The script that Python is to run; ``None`` for another program, a module or code on the command line."""
    if not is_python(spec.command[0]):
        return None
    for word in spec.command[1:]:
        if word in ("-m", "-c") or not word.startswith("-"):
            return word if word.endswith(".py") else None
    return None
