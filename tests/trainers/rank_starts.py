"""Starts ranks for tests without saman's launcher: under mpirun, with any strategy, and a common log."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.training import ONE_PROCESS
from saman.runs import checkpoints
from saman.runs.folder import RunFolder

HERE = Path(__file__).parent
SOURCE = Path(__file__).parents[2] / "src"


def experiment(
    case: dict[str, Any], strategy: str, ranks: int, devices: int = 1, beside: int = 0, **train: Any
) -> Experiment:
    """Return the experiment of a case on other ranks; micro-batches are spread over them, not over those ``beside``."""
    values = copy.deepcopy(case)
    values["train"].update(strategy=strategy, **train)
    values["train"]["micro_batches"] = max(1, values["train"].get("micro_batches", 1) // ranks)
    together = ranks if strategy in ONE_PROCESS else devices
    values["resources"] = {"ranks_per_node": ranks + beside, "devices_per_process": together}
    return Experiment.model_validate(values)


def make_run(folder: Path, what: Experiment, export: bool = False) -> RunFolder:
    """Create a run folder; the user code is beside this file."""
    run = RunFolder.create(folder, what, code_path=[str(HERE)])
    if export:
        (run.path / "control" / "export").touch()
    return run


def copied(run: RunFolder, folder: Path, what: Experiment) -> RunFolder:
    """Create a run of another experiment that continues from the checkpoints of ``run``."""
    other = make_run(folder, what)
    shutil.rmtree(other.checkpoints)
    shutil.copytree(run.checkpoints, other.checkpoints)
    return other


def start(processes: int, *command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``python command`` in ``processes`` processes, under mpirun if there are several."""
    argv, environment = start_of(processes, *command, **environ)
    return subprocess.run(argv, env=environment, cwd=HERE.parent, text=True, capture_output=True, timeout=900)


def start_of(processes: int, *command: str, **environ: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of ``start``."""
    argv = [sys.executable, *command]
    if processes > 1:
        mpirun = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        if mpirun is None:
            pytest.skip("mpirun is missing")
        flags = ["--oversubscribe", "--bind-to", "none", "--mca", "mpi_yield_when_idle", "1"]
        argv = [mpirun, "-np", str(processes), *flags, *argv]
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SAMAN_", "TF_CONFIG"))},
        "PYTHONPATH": str(SOURCE),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "TF_NUM_INTRAOP_THREADS": "1",
        "TF_NUM_INTEROP_THREADS": "4",
        **environ,
    }
    return argv, environment


def train(processes: int, *runs: RunFolder) -> None:
    """Train all ``runs`` in the same processes."""
    done = start(processes, str(HERE / "train_in_one_start.py"), *[str(run.path) for run in runs])
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-6000:]}"


def final(run: RunFolder) -> dict[str, np.ndarray]:
    """Return weights and optimiser state of the newest checkpoint."""
    return checkpoints.find(run.checkpoints)[0].read()[1]


def distance(state: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> float:
    """Return the largest relative distance ‖w - w_ref‖ / ‖w_ref‖ of any tensor."""
    assert set(state) == set(reference)
    return max(_relative(state[name].astype("f8"), reference[name].astype("f8")) for name in reference)


def _relative(value: np.ndarray, reference: np.ndarray) -> float:
    norm = float(np.linalg.norm(reference))
    return float(np.linalg.norm(value - reference)) / norm if norm else float(np.linalg.norm(value))
