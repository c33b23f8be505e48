"""``python -m saman.slurm.job.shield COMMAND``: keeps Slurm's SIGTERM from starters, so that ranks can checkpoint.

When Slurm ends a job, every process gets SIGTERM, and SIGKILL after KillWait. The job script and the ranks use the
time between for a checkpoint; Open MPI's mpirun and its daemons would end the ranks at once. They install a handler
even for an ignored signal. But they leave a blocked signal blocked, and unblock it for the ranks. So this module
blocks it.
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace

from saman.launcher.node.mpi import Flavour, MpiInstallation
from saman.launcher.starters.start import Command, Start
from saman.runs import variables

ASKS = {variables.SIGTERM: "checkpoint"}  # the rank wrapper asks for a checkpoint on SIGTERM


def shield_from_sigterm(start: Start, mpi: MpiInstallation | None, python: str) -> Start:
    """Change a start so that SIGTERM asks its ranks for a checkpoint; SIGINT then stops it. Pure.

    Hydra (MPICH, Intel MPI) and horovodrun end their ranks on SIGTERM in any case; a note says so.

    Args:
        start: the planned start.
        mpi: the MPI that starts the ranks, if any.
        python: the Python interpreter that runs this module around ``mpirun``.
    """
    if start.starter == "processes":
        commands = tuple(replace(command, environment={**command.environment, **ASKS}) for command in start.commands)
        return replace(start, commands=commands, stop_signal=signal.SIGINT)
    if start.starter == "mpirun" and mpi is not None and mpi.flavour is Flavour.OPEN_MPI and " " not in python:
        commands = tuple(_open_mpi(command, mpi, python) for command in start.commands)
        return replace(start, commands=commands, stop_signal=signal.SIGINT)
    if start.starter in ("srun", "steps"):
        return start
    note = f"{start.starter} ends its ranks on SIGTERM: after a preemption the last regular checkpoint counts"
    return replace(start, notes=(*start.notes, note))


def _open_mpi(command: Command, mpi: MpiInstallation, python: str) -> Command:
    own = f"{python} -m saman.slurm.job.shield"
    agent = ("--mca", "orte_launch_agent", f"{own} orted")
    if mpi.version >= (5,):
        agent = ("--prtemca", "prte_launch_agent", f"{own} prted")
    mpirun, *rest = command.argv
    argv = (*own.split(" "), mpirun, *agent, "-x", next(iter(ASKS)), *rest)
    return replace(command, argv=argv, environment={**command.environment, **ASKS})


def main(arguments: list[str]) -> int:
    """Replace this process with the command, with SIGTERM blocked; returns only if the command cannot be started."""
    if not arguments:
        print("usage: python -m saman.slurm.job.shield COMMAND [ARGUMENT ...]", file=sys.stderr)
        return 2
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        os.execvp(arguments[0], arguments)
    except OSError as error:
        print(f"{arguments[0]} cannot be started: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
