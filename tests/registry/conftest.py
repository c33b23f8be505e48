"""Models that were really trained, made once for all tests of the registry that need TensorFlow."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from registry_kit import experiment

from saman.launcher.run_folder import RunFolder

_HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def real_exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """``good`` and ``poor`` (hardly trained) exports of real images, and a small ``synthetic`` one of 64 features.

    The images are Fashion-MNIST's where SAMAN_FASHION_MNIST names them, else scikit-learn's digits.
    """
    folder = tmp_path_factory.mktemp("exports")
    images = os.environ.get("SAMAN_FASHION_MNIST", "digits")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    wanted = (("good", images, 900, 0), ("poor", images, 1, 1), ("synthetic", "synthetic", 300, 0))
    for name, source, steps, seed in wanted:
        command = [sys.executable, str(_HERE / "make_export.py"), str(folder / name), source, str(steps), str(seed)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
    return {name: folder / name for name, *_ in wanted}


@pytest.fixture(scope="session")
def real_run(real_exports: dict[str, Path]) -> Callable[[Path, str], RunFolder]:
    """A finished run that exported the ``good`` or the ``poor`` model."""

    def make(folder: Path, which: str, model: str = "images") -> RunFolder:
        run = RunFolder.create(folder / "runs", experiment(model=model))
        shutil.copytree(real_exports[which], run.export, dirs_exist_ok=True)
        run.append("completed", "supervisor")
        return run

    return make
