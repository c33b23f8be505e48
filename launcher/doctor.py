"""What is installed here, what is missing, and what to do about it: the findings behind ``saman doctor``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from saman.launcher.node.horovod_build import HorovodBuild, horovod_build
from saman.launcher.node.machine import allowed_cores, cpu_quota, memory_bytes, physical_cores, visible_gpus
from saman.launcher.node.mpi import MpiInstallation, find_mpi
from saman.launcher.setup.machine import existing
from saman.launcher.setup.stacks import COMPAT, CURRENT
from saman.launcher.setup.steps import source_tree
from saman.runs import variables
from saman.runs.caches import cache_folder

State = Literal["ok", "missing", "broken"]
GIB = 2**30
SLURM_COMMANDS = ("sbatch", "srun", "squeue", "sacct", "sinfo", "scontrol", "scancel")
INVENTORY_SECONDS = 180  # importing TensorFlow from a cold network file system
LOW_MEMORY = 1 * GIB  # one rank's TensorFlow takes about half of it
LOW_SPACE = 1 * GIB

Inventory = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Diagnosis:
    """One thing looked at. ``needed``: ``saman run`` cannot train here without it. ``remedy``: what to do about it."""

    name: str
    state: State
    found: str
    remedy: str = ""
    needed: bool = False

    @property
    def blocks(self) -> bool:
        """Whether this keeps ``saman run`` from training here."""
        return self.needed and self.state != "ok"


def examine(runs_dir: Path, models_dir: Path) -> list[Diagnosis]:
    """Look at everything; takes the seconds that importing TensorFlow in another process takes."""
    inventory = take_inventory()
    mpi = find_mpi()
    return [
        python(),
        *libraries(inventory),
        mpi_finding(mpi, inventory.get("horovod", {}), horovod_build()),
        slurm(),
        gpus(inventory),
        cores(),
        memory(),
        writable("runs", runs_dir, needed=True, option="--runs-dir"),
        writable("models", models_dir, needed=False, option="--models-dir"),
        writable("cache", cache_folder(), needed=False, option=variables.CACHE_DIR),
    ]


def can_train(findings: Iterable[Diagnosis]) -> bool:
    """Whether nothing that training needs is missing or broken."""
    return not any(finding.blocks for finding in findings)


def as_plain(findings: list[Diagnosis]) -> dict[str, Any]:
    """The findings as data for ``--json``."""
    return {"can_train": can_train(findings), "findings": [asdict(finding) for finding in findings]}


def take_inventory() -> dict[str, dict[str, Any]]:
    """What ``saman.trainers.inventory`` says; each part holds ``missing`` or ``error`` where it does not work."""
    command = [sys.executable, "-m", "saman.trainers.inventory"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INVENTORY_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"tensorflow": {"error": f"importing it took more than {INVENTORY_SECONDS} s"}}
    if done.returncode < 0:
        return {"tensorflow": {"error": f"importing it ended with {signal.Signals(-done.returncode).name}"}}
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        return dict(found)
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        return {"tensorflow": {"error": f"asking for it printed: {last}"}}


def set_up_line() -> str:
    """The command that brings what is missing."""
    return "make setup" if source_tree() else "saman setup"


def python() -> Diagnosis:
    """The Python that runs saman."""
    found = f"{sys.version.split()[0]} in {sys.prefix}"
    low, high = CURRENT.oldest_python, CURRENT.newest_python
    if not low <= sys.version_info[:2] <= high:
        remedy = f"use Python {CURRENT.pythons}, for which TensorFlow {CURRENT.tensorflow} exists"
        return Diagnosis("Python", "broken", found, remedy, needed=True)
    return Diagnosis("Python", "ok", found, needed=True)


def libraries(inventory: Inventory) -> list[Diagnosis]:
    """TensorFlow, Keras, Horovod, and the two smaller ones."""
    return [
        library("TensorFlow", inventory.get("tensorflow"), tensorflow_text, needed=True),
        library("Keras", inventory.get("keras"), keras_text, needed=True),
        library("Horovod", inventory.get("horovod"), horovod_text, needed=True),
        library("mpi4py", inventory.get("mpi4py"), lambda facts: f"{facts['version']} with {facts['library']}"),
        library("scikit-learn", inventory.get("scikit-learn"), lambda facts: f"{facts['version']} (the digits)"),
    ]


def library(name: str, facts: Mapping[str, Any] | None, text: Any, *, needed: bool = False) -> Diagnosis:
    """A finding from one part of the inventory; parts that an earlier failure hid are missing from it."""
    if facts is None or facts.get("missing"):
        found = "not installed" if facts else "not reached"
        return Diagnosis(name, "missing", found, set_up_line(), needed)
    if "error" in facts:
        remedy = f"it is installed but does not load: {set_up_line()} into a new environment"
        if "SIGILL" in facts["error"]:
            remedy = "this CPU lacks AVX, which TensorFlow's wheels need"
        return Diagnosis(name, "broken", str(facts["error"]), remedy, needed)
    return Diagnosis(name, "ok", text(facts), needed=needed)


def tensorflow_text(facts: Mapping[str, Any]) -> str:
    """``2.21.0 (tested), for CPUs``."""
    tested = facts["version"] in (CURRENT.tensorflow, COMPAT.tensorflow)
    kind = "CPUs and GPUs" if facts["cuda"] else "CPUs"
    return f"{facts['version']} for {kind}, {'tested' if tested else 'not a version that saman is tested with'}"


def keras_text(facts: Mapping[str, Any]) -> str:
    """``3.15.1; Keras 2 for --legacy-keras: 2.21.0``."""
    legacy = facts.get("legacy")
    return f"{facts['version']}; tf_keras {legacy} for --legacy-keras" if legacy else str(facts["version"])


def horovod_text(facts: Mapping[str, Any]) -> str:
    """Version, frameworks, controllers and tensor operations."""
    names = ("frameworks", "controllers", "operations")
    return "; ".join([facts["version"], *(f"{name} {', '.join(facts[name]) or 'none'}" for name in names)])


def mpi_finding(mpi: MpiInstallation | None, horovod: Mapping[str, Any], build: HorovodBuild | None) -> Diagnosis:
    """The MPI that would start ranks, and whether Horovod has an MPI to go with it."""
    if mpi is None:
        return Diagnosis("MPI", "missing", "no mpirun that answers", "not needed: ranks start over Gloo without it")
    found = f"{mpi}, {mpi.mpirun}"
    if "version" in horovod and "MPI" not in horovod["controllers"]:
        return Diagnosis("MPI", "broken", found, "Horovod was built without MPI; ranks start over Gloo")
    if build and build.mpi not in (None, mpi.abi):
        remedy = f"Horovod was built with {build.mpi}: saman setup --mpi system builds it with this one"
        return Diagnosis("MPI", "broken", found, remedy)
    return Diagnosis("MPI", "ok", found)


def slurm() -> Diagnosis:
    """Slurm's commands and version."""
    missing = [name for name in SLURM_COMMANDS if shutil.which(name) is None]
    if len(missing) == len(SLURM_COMMANDS):
        return Diagnosis("Slurm", "missing", "no Slurm commands", "only needed to submit: use a cluster's login node")
    if missing:
        remedy = "saman submit, status and cancel need all of them"
        return Diagnosis("Slurm", "broken", f"without {', '.join(missing)}", remedy)
    try:
        done = subprocess.run(["sinfo", "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Diagnosis(
            "Slurm", "broken", "sinfo does not answer", "see whether SLURM_CONF names a cluster that is up"
        )
    if done.returncode != 0:
        remedy = "set SLURM_CONF, or try saman on one machine with: saman minicluster up"
        return Diagnosis("Slurm", "missing", "its commands are here, but no cluster is configured", remedy)
    return Diagnosis("Slurm", "ok", f"{done.stdout.strip()}: {', '.join(SLURM_COMMANDS)}")


def gpus(inventory: Inventory) -> Diagnosis:
    """The GPUs that may be used, and whether TensorFlow and Horovod can."""
    visible = visible_gpus(os.environ)
    if not visible:
        return Diagnosis("GPUs", "missing", "none visible", "not needed: saman trains on CPUs too")
    found = f"{len(visible)} visible ({', '.join(visible)})"
    if not inventory.get("tensorflow", {}).get("gpus"):
        return Diagnosis("GPUs", "broken", f"{found}, none usable by TensorFlow", "saman setup --gpu brings CUDA")
    if "NCCL" not in inventory.get("horovod", {}).get("operations", ()):
        return Diagnosis("GPUs", "broken", f"{found}, Horovod has no NCCL", "saman setup --gpu builds it with NCCL")
    return Diagnosis("GPUs", "ok", found)


def cores() -> Diagnosis:
    """The cores that this process may use, of those that the machine has."""
    allowed = allowed_cores()
    found = f"{len(allowed)} of {os.cpu_count()} usable, {physical_cores(allowed)} physical"
    quota = cpu_quota()
    if quota is not None and quota < len(allowed):
        found += f"; a cgroup quota allows {quota:g}"
    return Diagnosis("Cores", "ok", found, needed=True)


def memory() -> Diagnosis:
    """The memory that may be used."""
    size = memory_bytes()
    if size is None:
        return Diagnosis("Memory", "ok", "unknown", needed=True)
    found = f"{size / GIB:.1f} GiB usable"
    if size < LOW_MEMORY:
        return Diagnosis("Memory", "broken", found, "ask for more: each rank takes about 0.5 GiB and more", needed=True)
    return Diagnosis("Memory", "ok", found, needed=True)


def writable(name: str, folder: Path, *, needed: bool, option: str) -> Diagnosis:
    """Whether ``folder`` can be written (or made), and the space left there."""
    place, name = existing(folder.expanduser().absolute()), f"Folder {name}"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Diagnosis(name, "broken", f"{folder} cannot be written", f"choose another place with {option}", needed)
    free = shutil.disk_usage(place).free
    found = f"{folder}, {free / GIB:.1f} GiB free"
    if free < LOW_SPACE:
        return Diagnosis(name, "broken", found, f"free some space, or choose another place with {option}", needed)
    return Diagnosis(name, "ok", found, needed=needed)
