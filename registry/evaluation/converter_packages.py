"""Packages that a format needs besides TensorFlow: installed on first use into saman's cache.

They are installed without dependencies and come last on the path of a single converter process, so neither a second
TensorFlow is installed nor the environment changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.runs.caches import cache_folder, hold_user_lock
from saman.runs.commands import run_command
from saman.runs.files.write_errors import MODELS_OPTION, explain_write_errors

Say = Callable[[str], None]


def discard_message(_text: str) -> None:
    """Discard the message."""


@dataclass(frozen=True)
class ConverterPackages:
    """Packages from pip and npm for a format, and the modules that they bring."""

    name: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    npm: tuple[str, ...] = ()


# Tested on TensorFlow 2.21 and Python 3.10–3.13.
LITERT = ConverterPackages("litert", ("ai-edge-litert==2.1.6", "backports.strenum==1.2.8", "tqdm"), ("ai_edge_litert",))
ONNX = ConverterPackages(
    "onnx",
    ("tf2onnx==1.17.0", "onnx==1.19.1", "onnxruntime==1.23.2", "flatbuffers>=24"),
    ("tf2onnx", "onnx", "onnxruntime"),
)
TFJS = ConverterPackages("tfjs", ("tensorflowjs==4.22.0",), ("tensorflowjs",), ("@tensorflow/tfjs@4.22.0",))


def install_packages(wanted: ConverterPackages, say: Say = discard_message) -> Path:
    """Install the packages unless they are cached, and announce the download.

    Returns:
        Their folder: ``python/`` and ``node/``.

    Raises:
        EnvironmentLack: Node.js or the network is missing, or the cache is not writable.
    """
    cache = cache_folder()
    name = _folder_name(wanted)
    folder = cache / "converters" / name
    if folder.is_dir():
        return folder
    if wanted.npm and not shutil.which("npm"):
        raise EnvironmentLack(f"{wanted.name} needs Node.js and npm", remedy="install Node.js 18 or newer")
    with (
        explain_write_errors(cache, "the cache of converters", MODELS_OPTION),
        hold_user_lock(name, cache, lambda: say("waiting for another saman process")),
    ):
        if not folder.is_dir():
            listed = ", ".join(wanted.packages + wanted.npm)
            say(f"installing packages for {wanted.name} into {folder} (once): {listed}")
            _install(wanted, folder)
    return folder


def _folder_name(wanted: ConverterPackages) -> str:
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    content = json.dumps([wanted.packages, wanted.npm, python])
    return f"{wanted.name}-{python}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _install(wanted: ConverterPackages, folder: Path) -> None:
    """Install into a draft and rename it, so that a killed installation leaves nothing half-done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(draft / "python")]
        _run([*pip, *wanted.packages], wanted)
        if wanted.npm:
            (draft / "node").mkdir()
            (draft / "node" / "package.json").write_text('{"private": true}')
            npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(draft / "node")]
            _run([*npm, *wanted.npm], wanted)
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _run(command: Sequence[str], wanted: ConverterPackages) -> None:
    done = run_command(command)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERR" in line.upper()] or done.stderr.splitlines()
        reason = (lines or ["no reason given"])[-1].strip()
        problem = f"the packages for {wanted.name} cannot be installed: {reason}"
        raise EnvironmentLack(problem, remedy=f"check the network, or install by hand: {' '.join(command)}")
