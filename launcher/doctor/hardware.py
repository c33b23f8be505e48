"""Checks the GPUs, cores and memory of this machine, and the folders that saman writes to."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from saman.configs.home_folder import in_home
from saman.launcher.doctor.diagnosis import Diagnosis
from saman.launcher.node.machine import allowed_cores, cpu_quota, memory_bytes, physical_cores, visible_gpus
from saman.launcher.setup.machine import existing
from saman.runs.records.inventory import Inventory

GIB = 2**30
LOW_MEMORY = 1 * GIB  # TensorFlow takes about half of it in each rank
LOW_SPACE = 1 * GIB


def check_gpus(inventory: Inventory) -> Diagnosis:
    """The visible GPUs, and whether TensorFlow and Horovod can use them."""
    visible = visible_gpus(os.environ)
    if not visible:
        return Diagnosis("GPUs", "missing", "none visible", "not needed: saman trains on CPUs too")
    found = f"{len(visible)} visible ({', '.join(visible)})"
    tensorflow, horovod = inventory.get("tensorflow"), inventory.get("horovod")
    if tensorflow is None or not tensorflow.gpus:
        return Diagnosis("GPUs", "broken", f"{found}, none usable by TensorFlow", "saman setup --gpu installs CUDA")
    if horovod is None or "NCCL" not in horovod.operations:
        remedy = "saman setup --gpu builds Horovod with NCCL"
        return Diagnosis("GPUs", "broken", f"{found}, Horovod has no NCCL", remedy)
    return Diagnosis("GPUs", "ok", found)


def check_cores() -> Diagnosis:
    """The cores that this process may use."""
    allowed = allowed_cores()
    found = f"{len(allowed)} of {os.cpu_count()} usable, {physical_cores(allowed)} physical"
    quota = cpu_quota()
    if quota is not None and quota < len(allowed):
        found += f"; a cgroup quota allows {quota:g}"
    return Diagnosis("Cores", "ok", found, needed=True)


def check_memory() -> Diagnosis:
    """The memory that this process may use."""
    size = memory_bytes()
    if size is None:
        return Diagnosis("Memory", "ok", "unknown", needed=True)
    found = f"{size / GIB:.1f} GiB usable"
    if size < LOW_MEMORY:
        return Diagnosis("Memory", "broken", found, "ask for more: each rank takes at least 0.5 GiB", needed=True)
    return Diagnosis("Memory", "ok", found, needed=True)


def check_folder(name: str, folder: Path, *, needed: bool, option: str) -> Diagnosis:
    """Whether ``folder`` can be written or created, and its free space.

    Args:
        name: the folder's name in the diagnosis.
        folder: the folder; it need not exist.
        needed: whether saman cannot work without it.
        option: the command-line option that names another folder.
    """
    place, name = existing(in_home(folder).absolute()), f"Folder {name}"
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Diagnosis(name, "broken", f"{folder} is not writable", f"choose another folder with {option}", needed)
    free = shutil.disk_usage(place).free
    found = f"{folder}, {free / GIB:.1f} GiB free"
    if free < LOW_SPACE:
        return Diagnosis(name, "broken", found, f"free some space, or choose another folder with {option}", needed)
    return Diagnosis(name, "ok", found, needed=needed)
