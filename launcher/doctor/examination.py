"""Runs every check of ``saman doctor``."""

from __future__ import annotations

from pathlib import Path

from saman.launcher.doctor.diagnosis import Diagnosis
from saman.launcher.doctor.hardware import check_cores, check_folder, check_gpus, check_memory
from saman.launcher.doctor.inventory import take_inventory
from saman.launcher.doctor.software import check_libraries, check_mpi, check_python, check_slurm
from saman.launcher.node.horovod_build import horovod_build
from saman.launcher.node.mpi import find_mpi
from saman.runs import variables
from saman.runs.caches import cache_folder


def examine(runs_dir: Path, models_dir: Path) -> list[Diagnosis]:
    """Check everything; takes seconds, because another process imports TensorFlow."""
    inventory = take_inventory()
    return [
        check_python(),
        *check_libraries(inventory),
        check_mpi(find_mpi(), inventory.get("horovod"), horovod_build()),
        check_slurm(),
        check_gpus(inventory),
        check_cores(),
        check_memory(),
        check_folder("runs", runs_dir, needed=True, option="--runs-dir"),
        check_folder("models", models_dir, needed=False, option="--models-dir"),
        check_folder("cache", cache_folder(), needed=False, option=variables.CACHE_DIR),
    ]
