"""Starts what needs TensorFlow or a foreign runtime as a process (``saman.trainers.convert``) with what it needs.

What TensorFlow's own environment lacks is installed once into a folder of the cache, without dependencies, and put
behind that environment on the path of the one process that asked for it: no second TensorFlow, nothing changed beside.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import EnvironmentLack, UserError
from saman.registry.store import disk
from saman.runs import variables
from saman.runs.caches import cache_folder, only_one

Say = Callable[[str], None]


def silent(_text: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Overlay:
    """Packages that one format needs besides TensorFlow; ``modules`` are what is imported of them."""

    name: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    npm: tuple[str, ...] = ()


# The tested versions: their newest that work on TensorFlow 2.21 and Python 3.10–3.13.
LITERT = Overlay("litert", ("ai-edge-litert==2.1.6", "backports.strenum==1.2.8", "tqdm"), ("ai_edge_litert",))
ONNX = Overlay(
    "onnx",
    ("tf2onnx==1.17.0", "onnx==1.19.1", "onnxruntime==1.23.2", "flatbuffers>=24"),
    ("tf2onnx", "onnx", "onnxruntime"),
)
TFJS = Overlay("tfjs", ("tensorflowjs==4.22.0",), ("tensorflowjs",), ("@tensorflow/tfjs@4.22.0",))


def call(arguments: Sequence[str], overlay: Overlay | None = None, *, say: Say = silent) -> dict[str, Any]:
    """What ``python -m saman.trainers.convert ARGUMENTS`` reports.

    Raises ``UserError`` with the converter's reason where it failed, ``EnvironmentLack`` where something is missing.
    """
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    if overlay is not None:
        folder = ready(overlay, say)
        before = [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
        environment["PYTHONPATH"] = os.pathsep.join([*before, str(folder / "python")])
        environment[variables.TFJS_NODE] = str(folder / "node")
    with tempfile.TemporaryDirectory(prefix="saman-") as scratch:
        report = Path(scratch, "report.json")
        command = [sys.executable, "-m", "saman.trainers.convert", *arguments, "--report", str(report)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        found = json.loads(report.read_text()) if report.is_file() else {}
    if found.get("ok"):
        return {key: value for key, value in found.items() if key != "ok"}
    raise _failure(arguments, found, done)


def _failure(arguments: Sequence[str], found: dict[str, Any], done: subprocess.CompletedProcess[str]) -> UserError:
    what = " ".join(arguments[:2] if arguments[0] != "predict" else arguments[:1])
    if found.get("lacks"):
        return EnvironmentLack(f"{what} needs {found['lacks']}, which is not installed here", remedy="saman setup")
    if done.returncode < 0:
        return UserError(f"{what} was killed by signal {-done.returncode}", remedy="is there enough memory?")
    last = (done.stderr.strip().splitlines() or ["it gave no reason"])[-1]
    return UserError(f"{what} failed: {found.get('problem') or last}")


def ready(overlay: Overlay, say: Say = silent) -> Path:
    """The overlay's folder, made on the first demand and kept; says so before anything is downloaded."""
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    cache = cache_folder()
    content = json.dumps([overlay.packages, overlay.npm, python])
    name = f"{overlay.name}-{python}-{disk_name(content)}"
    folder = cache / "converters" / name
    if folder.is_dir():
        return folder
    if overlay.npm and not shutil.which("npm"):
        raise EnvironmentLack(f"{overlay.name} needs Node.js and npm", remedy="install Node.js 18 or newer")
    with (
        disk.explained(cache, "the cache of converters"),
        only_one(name, cache, lambda: say("waiting for another saman")),
    ):
        if folder.is_dir():
            return folder
        say(
            f"making the environment for {overlay.name} once: {', '.join(overlay.packages + overlay.npm)} into {folder}"
        )
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
        try:
            _install(overlay, draft)
            draft.chmod(0o755)
            draft.rename(folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def disk_name(content: str) -> str:
    """A short name for a content."""
    import hashlib

    return hashlib.sha256(content.encode()).hexdigest()[:12]


def _install(overlay: Overlay, draft: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(draft / "python")]
    _run([*pip, *overlay.packages], overlay)
    if overlay.npm:
        (draft / "node").mkdir()
        (draft / "node" / "package.json").write_text('{"private": true}')
        npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(draft / "node")]
        _run([*npm, *overlay.npm], overlay)


def _run(command: Sequence[str], overlay: Overlay) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERR" in line.upper()] or done.stderr.splitlines()
        problem = f"the environment for {overlay.name} cannot be made: {(lines or ['no reason given'])[-1].strip()}"
        raise EnvironmentLack(problem, remedy=f"is there a network? by hand: {' '.join(command)}")
