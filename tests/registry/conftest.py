"""Models that were really trained, made once for all tests of the registry that need TensorFlow."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest
from registry_kit import experiment

from saman.runs.caches import cache_folder
from saman.runs.folder import RunFolder

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
    each = [[str(folder / name), source, str(steps), str(seed)] for name, source, steps, seed in wanted]
    command = [sys.executable, str(_HERE / "make_export.py"), *(part for one in each for part in one)]
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


# What some tests check the registry against; an environment of its own, for it must not change saman's.
FOREIGN = ("mlflow==3.17.2", "model-signing==1.1.1", "pyOpenSSL>=24")
FOREIGN_ALONE = ("tensorflow-serving-api==2.19.1",)  # without its TensorFlow


@pytest.fixture(scope="session")
def foreign() -> Path:
    """An environment with MLflow, model-signing and TensorFlow Serving's messages, made once in saman's cache.

    Its packages can be imported here after it: they come last on ``sys.path``.
    """
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    mark = hashlib.sha256(repr((FOREIGN, FOREIGN_ALONE)).encode()).hexdigest()[:8]
    folder = cache_folder() / "tests" / f"foreign-{python}-{mark}"
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        for options in (FOREIGN, ("--no-deps", *FOREIGN_ALONE)):
            done = subprocess.run([*pip, *options], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-500:]
        (folder / "whole").touch()
    packages = str(next((folder / "lib").glob("python3*")) / "site-packages")
    if packages not in sys.path:
        sys.path.append(packages)
    return folder
