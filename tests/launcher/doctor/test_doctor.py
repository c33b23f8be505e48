"""Promises of saman doctor: each thing with its state and what to do; the exit code says whether training works."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from saman.launcher.doctor.diagnosis import Diagnosis, can_train
from saman.launcher.doctor.hardware import check_folder, check_gpus
from saman.launcher.doctor.software import SLURM_COMMANDS, check_libraries, check_mpi, check_slurm
from saman.launcher.node.horovod_build import HorovodBuild
from saman.launcher.node.mpi import Flavour, MpiInstallation
from saman.runs.records.inventory import Inventory, LibraryFacts

SAMAN = [sys.executable, "-m", "saman", "doctor"]
HOROVOD = {
    "version": "0.28.1", "frameworks": ["tensorflow"], "controllers": ["MPI", "Gloo"], "operations": ["MPI", "Gloo"],
}  # fmt: skip
WHOLE: dict[str, dict[str, Any]] = {
    "tensorflow": {"version": "2.21.0", "gpus": [], "cuda": False},
    "keras": {"version": "3.15.1", "legacy": "2.21.0"},
    "horovod": HOROVOD,
    "mpi4py": {"version": "4.1.2", "library": "Open MPI v4.1.8"},
    "scikit-learn": {"version": "1.9.1"},
}


def by_name(findings: list[Diagnosis]) -> dict[str, Diagnosis]:
    return {finding.name: finding for finding in findings}


def test_what_is_installed_is_told_with_its_versions() -> None:
    found = by_name(check_libraries(Inventory.from_json(WHOLE)))
    assert all(finding.state == "ok" for finding in found.values())
    assert found["TensorFlow"].found == "2.21.0 for CPUs, tested"
    assert found["Keras"].found == "3.15.1; tf_keras 2.21.0 for --legacy-keras"
    assert found["Horovod"].found == "0.28.1; frameworks tensorflow; controllers MPI, Gloo; operations MPI, Gloo"
    assert can_train(list(found.values()))


@pytest.mark.parametrize("part", ["tensorflow", "keras", "horovod"])
@pytest.mark.parametrize(
    ("facts", "state"), [({"missing": True}, "missing"), ({"error": "libx.so: not found"}, "broken")]
)
def test_without_what_ranks_need_nothing_can_train(part: str, facts: dict[str, Any], state: str) -> None:
    found = by_name(check_libraries(Inventory.from_json({**WHOLE, part: facts})))
    name = {"tensorflow": "TensorFlow", "keras": "Keras", "horovod": "Horovod"}[part]
    assert found[name].state == state
    assert "set" in found[name].remedy
    assert found[name].blocks
    assert not can_train(list(found.values()))


@pytest.mark.parametrize("part", ["mpi4py", "scikit-learn"])
def test_what_ranks_can_do_without_does_not_block(part: str) -> None:
    assert can_train(check_libraries(Inventory.from_json({**WHOLE, part: {"missing": True}})))


def test_a_processor_that_tensorflow_cannot_run_on_is_named() -> None:
    found = by_name(check_libraries(Inventory.from_json({"tensorflow": {"error": "importing it ended with SIGILL"}})))
    assert "AVX" in found["TensorFlow"].remedy
    assert found["Horovod"].state == "missing"


def test_an_mpi_that_horovod_was_not_built_with_is_told() -> None:
    mpi = MpiInstallation(Flavour.OPEN_MPI, (4, 1, 8), "/opt/bin/mpirun")
    horovod = LibraryFacts.from_json(HOROVOD)
    assert check_mpi(mpi, horovod, HorovodBuild("openmpi", True)).state == "ok"
    assert "4.1.8" in check_mpi(mpi, horovod, HorovodBuild("openmpi", True)).found
    other = check_mpi(mpi, horovod, HorovodBuild("mpich", True))
    assert "built with mpich" in other.remedy
    without = LibraryFacts.from_json({**HOROVOD, "controllers": ["Gloo"], "operations": ["Gloo"]})
    assert check_mpi(mpi, without, None).state == "broken"
    assert not check_mpi(None, horovod, None).blocks


def test_slurm_is_looked_for_command_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert check_slurm().state == "missing"
    for name in SLURM_COMMANDS:
        (tmp_path / name).write_text("#!/bin/sh\necho slurm 23.11.4\n")
        (tmp_path / name).chmod(0o755)
    assert check_slurm() == Diagnosis("Slurm", "ok", f"slurm 23.11.4: {', '.join(SLURM_COMMANDS)}")
    (tmp_path / "scancel").unlink()
    assert check_slurm().found == "without scancel"
    (tmp_path / "scancel").symlink_to(tmp_path / "squeue")
    (tmp_path / "sinfo").write_text("#!/bin/sh\nexit 1\n")
    assert "no cluster" in check_slurm().found


def test_gpus_that_cannot_be_used_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert check_gpus(Inventory.from_json(WHOLE)).state == "missing"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert check_gpus(Inventory.from_json(WHOLE)).state == "broken"
    usable = {**WHOLE, "tensorflow": {**WHOLE["tensorflow"], "gpus": ["/gpu:0", "/gpu:1"]}}
    assert "NCCL" in check_gpus(Inventory.from_json(usable)).found
    with_nccl = {**usable, "horovod": {**HOROVOD, "operations": ["NCCL", "MPI"]}}
    assert check_gpus(Inventory.from_json(with_nccl)).state == "ok"


def test_a_folder_that_cannot_be_written_says_which_option_moves_it(tmp_path: Path) -> None:
    assert check_folder("runs", tmp_path / "new" / "runs", needed=True, option="--runs-dir").state == "ok"
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    found = check_folder("runs", tmp_path / "file" / "runs", needed=True, option="--runs-dir")
    assert found.blocks
    assert "--runs-dir" in found.remedy


def broken_tensorflow(folder: Path) -> dict[str, str]:
    """An environment in which importing TensorFlow fails."""
    (folder / "tensorflow.py").write_text("raise ImportError('libx.so.2: cannot open shared object file')\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}


def test_a_tensorflow_that_does_not_load_ends_with_exit_code_three(tmp_path: Path) -> None:
    environment = broken_tensorflow(tmp_path)
    done = subprocess.run([*SAMAN, "--json"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    plain = json.loads(done.stdout)
    assert plain["can_train"] is False
    found = {finding["name"]: finding for finding in plain["findings"]}
    assert found["TensorFlow"]["state"] == "broken"
    assert "cannot open shared object file" in found["TensorFlow"]["found"]
    assert found["TensorFlow"]["remedy"]


def test_in_a_pipe_there_is_one_plain_line_per_thing(tmp_path: Path) -> None:
    done = subprocess.run(SAMAN, cwd=tmp_path, env=broken_tensorflow(tmp_path), capture_output=True, text=True)
    assert done.returncode == 3
    assert "\x1b" not in done.stdout
    assert not set("─│┌╭✓") & set(done.stdout)
    *lines, verdict = done.stdout.strip().splitlines()
    assert all(line.startswith(("ok ", "missing ", "broken ")) for line in lines)
    assert verdict == "saman run cannot train here yet: see TensorFlow, Keras, Horovod."


@pytest.mark.tensorflow
@pytest.mark.ranks
def test_where_everything_is_set_up_the_doctor_finds_that_training_works(tmp_path: Path) -> None:
    done = subprocess.run([*SAMAN, "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    found = {finding["name"]: finding for finding in json.loads(done.stdout)["findings"]}
    assert "controllers MPI, Gloo" in found["Horovod"]["found"]
    assert list(tmp_path.iterdir()) == []
