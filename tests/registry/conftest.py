"""Other programs that the registry is checked against."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from saman.runs.caches import cache_folder

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
