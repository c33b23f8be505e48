"""A process identifies itself under every start method."""

from __future__ import annotations

import pytest

from saman.runs.ranks.identity import identify

# What real start methods set (shortened to what is read).
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_LOCAL_RANK": "1",
            "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "PMIX_RANK": "3"}  # fmt: skip
HYDRA = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2", "PMI_FD": "9"}
SLURM = {"SLURM_PROCID": "5", "SLURM_NTASKS": "8", "SLURM_LOCALID": "1", "SLURM_NTASKS_PER_NODE": "2(x4)"}
GLOO = {"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2", "HOROVOD_LOCAL_RANK": "1", "HOROVOD_LOCAL_SIZE": "2"}


@pytest.mark.parametrize(
    ("environ", "starter", "process", "processes"),
    [
        (OPEN_MPI, "mpirun", 3, 4),
        (HYDRA, "mpirun", 1, 2),
        (SLURM, "srun", 5, 8),
        (GLOO, "horovodrun", 1, 2),
        (OPEN_MPI, "horovodrun", 3, 4),
        (OPEN_MPI | SLURM, "mpirun", 3, 4),
        (OPEN_MPI | SLURM, "srun", 5, 8),
        (SLURM | {"SAMAN_PROCESS": "1", "SAMAN_PROCESSES": "2"}, "processes", 1, 2),
        (OPEN_MPI, None, 3, 4),
        (SLURM, None, 5, 8),
        ({}, None, 0, 1),
    ],
)
def test_a_process_knows_who_it_is(environ: dict[str, str], starter: str | None, process: int, processes: int) -> None:
    found = identify(environ, starter)
    assert (found.process, found.processes) == (process, processes)


def test_a_missing_identity_is_an_error() -> None:
    with pytest.raises(ValueError, match="mpirun set none of OMPI_COMM_WORLD_RANK, PMI_RANK"):
        identify(SLURM, "mpirun")
