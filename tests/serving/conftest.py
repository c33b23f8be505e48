"""Published versions of real models, for servers."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from serving_kit import LiveServer, live_server

from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.publish import publish
from saman.runs.caches import cache_folder
from saman.runs.folder import RunFolder

PACKAGES = ("ovmsclient==2023.1", "tensorflow-serving-api==2.19.1")  # both without their dependencies


@pytest.fixture(scope="session")
def served_models(tmp_path_factory: pytest.TempPathFactory, real_run: Callable[..., RunFolder]) -> Path:
    """``images``: version 1 is stable, version 2 (poor) canary."""
    folder = tmp_path_factory.mktemp("served")
    for which in ("good", "poor"):
        publish(real_run(folder, which), folder / "models")
    promote(folder / "models", "images:1")
    promote(folder / "models", "images:2", "canary")
    return folder / "models"


@pytest.fixture(scope="session")
def server(served_models: Path) -> Iterator[LiveServer]:
    """A server of ``served_models``; tests leave its registry as it is."""
    with live_server(served_models, "images", "--engine", "openvino") as started:
        yield started


@pytest.fixture(scope="session")
def client_packages() -> Path:
    """A folder with the clients' packages, made once in saman's cache."""
    mark = hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:8]
    folder = cache_folder() / "tests" / f"serving-clients-py{sys.version_info.major}.{sys.version_info.minor}-{mark}"
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--no-deps"]
        done = subprocess.run([*pip, *PACKAGES], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-500:]
        (folder / "whole").touch()
    return next((folder / "lib").glob("python3*")) / "site-packages"
