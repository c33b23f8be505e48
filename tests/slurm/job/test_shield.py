"""Slurm's SIGTERM asks ranks for a checkpoint instead of ending them."""

from __future__ import annotations

import signal

import pytest

from saman.launcher.node.mpi import Flavour, MpiInstallation
from saman.launcher.starters.start import Command, Start
from saman.slurm.job.shield import shield_from_sigterm


@pytest.mark.parametrize(
    ("version", "agent"),
    [((4, 1, 8), ["--mca", "orte_launch_agent", "/v/python -m saman.slurm.job.shield orted"]),
     ((5, 0, 11), ["--prtemca", "prte_launch_agent", "/v/python -m saman.slurm.job.shield prted"])],
)  # fmt: skip
def test_slurms_sigterm_is_kept_from_open_mpi_and_its_daemons(version: tuple[int, ...], agent: list[str]) -> None:
    mpi = MpiInstallation(Flavour.OPEN_MPI, version, "/v/mpirun")
    made = shield_from_sigterm(Start("mpirun", (Command(("/v/mpirun", "-np", "2", "x")),)), mpi, "/v/python")
    mpirun = ["/v/python", "-m", "saman.slurm.job.shield", "/v/mpirun", *agent, "-x", "SAMAN_SIGTERM", "-np", "2", "x"]
    assert list(made.commands[0].argv) == mpirun and made.stop_signal is signal.SIGINT
    assert made.commands[0].environment == {"SAMAN_SIGTERM": "checkpoint"}


def test_starters_that_end_their_ranks_on_sigterm_say_so() -> None:
    for starter, mpi in (("mpirun", MpiInstallation(Flavour.MPICH, (4, 2), "/v/mpirun")), ("horovodrun", None)):
        start = Start(starter, (Command((starter, "x")),))
        made = shield_from_sigterm(start, mpi, "/v/python")
        assert made.commands == start.commands and "the last regular checkpoint counts" in made.notes[-1]


def test_processes_are_asked_for_a_checkpoint_by_sigterm_and_ended_by_sigint() -> None:
    made = shield_from_sigterm(Start("processes", (Command(("python", "x")),)), None, "/v/python")
    assert made.commands == (Command(("python", "x"), {"SAMAN_SIGTERM": "checkpoint"}),)
    assert made.stop_signal is signal.SIGINT
