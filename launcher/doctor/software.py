"""Checks the Python, the libraries that train, MPI and Slurm."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable

from saman.launcher.doctor.diagnosis import Diagnosis
from saman.launcher.node.horovod_build import HorovodBuild
from saman.launcher.node.mpi import MpiInstallation
from saman.launcher.setup.stacks import COMPAT, CURRENT
from saman.launcher.setup.steps import source_tree
from saman.runs.commands import COMMAND_ERRORS, run_command
from saman.runs.records.inventory import Inventory, LibraryFacts

SLURM_COMMANDS = ("sbatch", "srun", "squeue", "sacct", "sinfo", "scontrol", "scancel")


def check_python() -> Diagnosis:
    """The Python that runs saman."""
    found = f"{sys.version.split()[0]} in {sys.prefix}"
    low, high = CURRENT.oldest_python, CURRENT.newest_python
    if not low <= sys.version_info[:2] <= high:
        remedy = f"use Python {CURRENT.pythons}; TensorFlow {CURRENT.tensorflow} has no wheels for others"
        return Diagnosis("Python", "broken", found, remedy, needed=True)
    return Diagnosis("Python", "ok", found, needed=True)


def check_libraries(inventory: Inventory) -> list[Diagnosis]:
    """TensorFlow, Keras, Horovod, mpi4py and scikit-learn."""
    return [
        check_library("TensorFlow", inventory.get("tensorflow"), _describe_tensorflow, needed=True),
        check_library("Keras", inventory.get("keras"), _describe_keras, needed=True),
        check_library("Horovod", inventory.get("horovod"), _describe_horovod, needed=True),
        check_library("mpi4py", inventory.get("mpi4py"), lambda facts: f"{facts.version} with {facts.library}"),
        check_library("scikit-learn", inventory.get("scikit-learn"), lambda facts: f"{facts.version} (the digits)"),
    ]


def check_library(
    name: str, facts: LibraryFacts | None, describe: Callable[[LibraryFacts], str], *, needed: bool = False
) -> Diagnosis:
    """A library by its part of the inventory, which is missing if an earlier library failed to load.

    Args:
        name: the library's name.
        facts: its part of the inventory.
        describe: the text for a working library.
        needed: whether saman cannot work without it.
    """
    setup = "make setup" if source_tree() else "saman setup"
    if facts is None or facts.missing:
        return Diagnosis(name, "missing", "not installed" if facts else "not reached", setup, needed)
    if facts.error is not None:
        remedy = f"installed but does not load: {setup} into a new environment"
        if "SIGILL" in facts.error:
            remedy = "this CPU lacks AVX, which TensorFlow's wheels need"
        return Diagnosis(name, "broken", facts.error, remedy, needed)
    return Diagnosis(name, "ok", describe(facts), needed=needed)


def _describe_tensorflow(facts: LibraryFacts) -> str:
    """``2.21.0 for CPUs, tested``."""
    tested = facts.version in (CURRENT.tensorflow, COMPAT.tensorflow)
    kind = "CPUs and GPUs" if facts.cuda else "CPUs"
    return f"{facts.version} for {kind}, {'tested' if tested else 'not a version that saman is tested with'}"


def _describe_keras(facts: LibraryFacts) -> str:
    """``3.15.1; tf_keras 2.21.0 for --legacy-keras``."""
    return f"{facts.version}; tf_keras {facts.legacy} for --legacy-keras" if facts.legacy else facts.version


def _describe_horovod(facts: LibraryFacts) -> str:
    """Version, frameworks, controllers and tensor operations."""
    parts = {"frameworks": facts.frameworks, "controllers": facts.controllers, "operations": facts.operations}
    return "; ".join([facts.version, *(f"{name} {', '.join(names) or 'none'}" for name, names in parts.items())])


def check_mpi(mpi: MpiInstallation | None, horovod: LibraryFacts | None, build: HorovodBuild | None) -> Diagnosis:
    """The MPI that would start ranks, and whether Horovod was built with it.

    Args:
        mpi: the MPI of this machine; ``None`` without a working ``mpirun``.
        horovod: Horovod's part of the inventory.
        build: the MPI and Gloo support that Horovod was built with.
    """
    if mpi is None:
        return Diagnosis("MPI", "missing", "no working mpirun", "not needed: ranks start over Gloo without it")
    found = f"{mpi}, {mpi.mpirun}"
    if horovod is not None and horovod.version and "MPI" not in horovod.controllers:
        return Diagnosis("MPI", "broken", found, "Horovod was built without MPI; ranks start over Gloo")
    if build and build.mpi not in (None, mpi.abi):
        remedy = f"Horovod was built with {build.mpi}; build it with this MPI: saman setup --mpi system"
        return Diagnosis("MPI", "broken", found, remedy)
    return Diagnosis("MPI", "ok", found)


def check_slurm() -> Diagnosis:
    """Slurm's commands and version."""
    missing = [name for name in SLURM_COMMANDS if shutil.which(name) is None]
    if len(missing) == len(SLURM_COMMANDS):
        return Diagnosis("Slurm", "missing", "no Slurm commands", "only needed to submit: use a cluster's login node")
    if missing:
        remedy = "saman submit, status and cancel need all of them"
        return Diagnosis("Slurm", "broken", f"without {', '.join(missing)}", remedy)
    try:
        done = run_command(["sinfo", "--version"], timeout_seconds=20)
    except COMMAND_ERRORS:
        remedy = "check that SLURM_CONF names a cluster that is up"
        return Diagnosis("Slurm", "broken", "sinfo does not answer", remedy)
    if done.returncode != 0:
        remedy = "set SLURM_CONF, or try saman on one machine with: saman minicluster up"
        return Diagnosis("Slurm", "missing", "its commands are here, but no cluster is configured", remedy)
    return Diagnosis("Slurm", "ok", f"{done.stdout.strip()}: {', '.join(SLURM_COMMANDS)}")
