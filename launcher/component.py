"""``python -m saman.launcher.component RUN ATTEMPT FOLDER NAME -- PROGRAM``: a process of a run's component.

It opens the log in the run folder, goes to the folder of the run's program, and becomes the program.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from saman.runs import variables
from saman.runs.paths.run import RunPaths

_NOT_FOUND = 127


def main(arguments: Sequence[str]) -> int:
    """Become the program of a component of a heterogeneous job; returns only if it cannot be started."""
    if len(arguments) < 6 or arguments[4] != "--":
        print("usage: python -m saman.launcher.component RUN ATTEMPT FOLDER NAME -- PROGRAM ...", file=sys.stderr)
        return 2
    run, attempt, folder, name, program = *arguments[:4], list(arguments[5:])
    task = os.environ.get(variables.COMPONENT_TASK) or os.environ.get("SLURM_PROCID", "0")
    os.environ[variables.COMPONENT], os.environ[variables.COMPONENT_TASK] = name, task
    log = RunPaths(Path(run)).attempt(int(attempt)).component_log(name, int(task))
    try:
        log.parent.mkdir(mode=0o755, exist_ok=True)
        opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(opened, 1)
        os.dup2(opened, 2)
        os.chdir(folder)
        os.execvp(program[0], program)
    except OSError as error:
        print(f"component {name}: {error.filename or program[0]}: {error.strerror}", file=sys.stderr, flush=True)
        return _NOT_FOUND


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
