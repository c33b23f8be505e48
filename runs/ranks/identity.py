"""Identity of this process, from the variables that each start method sets. Pure."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from saman.runs import variables

# (who sets it, index, count, local index, local count); the first family with an index is taken.
_OWN = ("saman", variables.PROCESS, variables.PROCESSES, variables.LOCAL_PROCESS, variables.LOCAL_PROCESSES)
_OPEN_MPI = (
    "mpirun",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "OMPI_COMM_WORLD_LOCAL_RANK",
    "OMPI_COMM_WORLD_LOCAL_SIZE",
)
_HYDRA = ("mpirun", "PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS")
_HOROVOD = ("horovodrun", "HOROVOD_RANK", "HOROVOD_SIZE", "HOROVOD_LOCAL_RANK", "HOROVOD_LOCAL_SIZE")
_SLURM = ("srun", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")
_FAMILIES = (_OWN, _OPEN_MPI, _HOROVOD, _HYDRA, _SLURM)


@dataclass(frozen=True)
class ProcessIdentity:
    """This process among ``processes``; local numbers are ``None`` if no variable holds them.

    ``source`` names the start method that set the variables; ``None`` for a process that was started alone.
    """

    process: int
    processes: int
    local_process: int | None = None
    local_processes: int | None = None
    source: str | None = None

    @property
    def is_alone(self) -> bool:
        """Whether no start method started this process."""
        return self.source is None


def identify(environ: Mapping[str, str], starter: str | None = None) -> ProcessIdentity:
    """Identify this process. Without any variable it is the only process.

    Args:
        environ: The environment.
        starter: The start method, if it is known; the variables of an enclosing job (mpirun called in an ``srun``
            shell) are then ignored.

    Raises:
        ValueError: ``starter`` set no variable, so it started singletons.

    >>> identify({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}).processes
    4
    """
    families = [family for family in _FAMILIES if starter is None or family[0] in _believed(starter)]
    for source, index, count, local, locals_ in families:
        if index in environ:
            return ProcessIdentity(
                int(environ[index]),
                _number(environ.get(count)) or 1,
                _number(environ.get(local)),
                _number(environ.get(locals_)),
                source,
            )
    if starter is not None:
        raise ValueError(f"{starter} set none of {', '.join(family[1] for family in families)}")
    return ProcessIdentity(0, 1, 0, 1)


def _believed(starter: str) -> tuple[str, ...]:
    # horovodrun --mpi calls mpirun and leaves mpirun's variables to the ranks; mpirun in an allocation may call srun.
    own = dict.fromkeys(("processes", "steps"), ("saman",))
    return {**own, "horovodrun": ("mpirun", "horovodrun")}.get(starter, (starter,))


def _number(text: str | None) -> int | None:
    # SLURM_NTASKS_PER_NODE may read "2(x4)".
    digits = (text or "").split("(")[0]
    return int(digits) if digits.isdigit() else None


def node_name(environ: Mapping[str, str]) -> str:
    """Name this node: Slurm's name, else the host's."""
    return environ.get("SLURMD_NODENAME") or socket.gethostname()


def own_address(environ: Mapping[str, str]) -> str:
    """Return the address of this rank's node as other nodes see it, or its name if it cannot be resolved."""
    name = node_name(environ)
    try:
        return socket.gethostbyname(name)
    except OSError:
        return name
