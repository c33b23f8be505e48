"""Packages that a format needs besides TensorFlow: installed on first use into saman's cache.

They are installed without dependencies and come last on the path of a single converter process, so neither a second
TensorFlow is installed nor the environment changed. The lock files beside this file name every package with its digest
(``make lock``); an archive with another digest is not installed, and no archive's own code runs at its installation.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.runs.caches import cache_folder, hold_user_lock, require_trusted
from saman.runs.commands import run_command
from saman.runs.files.write_errors import MODELS_OPTION, explain_write_errors

Say = Callable[[str], None]
_LOCKS = Path(__file__).with_name("locks")


def discard_message(_text: str) -> None:
    """Discard the message about converter packages."""


@dataclass(frozen=True)
class ConverterPackages:
    """Packages from pip, and from npm where ``node`` is set, for a format."""

    name: str
    node: bool = False

    @property
    def lock(self) -> Path:
        """Exact versions and digests of the packages from pip."""
        return _LOCKS / f"{self.name}.lock"

    @property
    def node_files(self) -> tuple[Path, ...]:
        """``package.json`` and the lock file with the digests of the packages from npm."""
        folder = _LOCKS / self.name
        return (folder / "package.json", folder / "package-lock.json") if self.node else ()

    def listed(self) -> str:
        """The packages by name and version, for a message."""
        return ", ".join(re.findall(r"^[\w.-]+==[^\s;]+", self.lock.read_text("utf-8"), re.MULTILINE))


# Tested on TensorFlow 2.21 and Python 3.10–3.13.
LITERT, ONNX, TFJS = ConverterPackages("litert"), ConverterPackages("onnx"), ConverterPackages("tfjs", node=True)


def install_packages(wanted: ConverterPackages, say: Say = discard_message) -> Path:
    """Install the packages unless they are cached, and announce the download.

    Returns:
        Their folder: ``python/`` and ``node/``.

    Raises:
        EnvironmentLack: Node.js or the network is missing, the cache is not writable, or others may write to it.
    """
    cache = cache_folder()
    name = _folder_name(wanted)
    folder = cache / "converters" / name
    require_trusted(folder.parent, folder, folder / "python", folder / "node")
    if folder.is_dir():
        return folder
    if wanted.node and not shutil.which("npm"):
        raise EnvironmentLack(f"{wanted.name} needs Node.js and npm", remedy="install Node.js 18 or newer")
    with (
        explain_write_errors(cache, "the cache of converters", MODELS_OPTION),
        hold_user_lock(name, cache, lambda: say("waiting for another saman process")),
    ):
        if not folder.is_dir():
            say(f"installing packages for {wanted.name} into {folder} (once): {wanted.listed()}")
            _install(wanted, folder)
    return folder


def _folder_name(wanted: ConverterPackages) -> str:
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    content = b"\n".join(file.read_bytes() for file in (wanted.lock, *wanted.node_files))
    return f"{wanted.name}-{python}-{hashlib.sha256(content).hexdigest()[:12]}"


def _install(wanted: ConverterPackages, folder: Path) -> None:
    """Install into a draft and rename it, so that a killed installation leaves nothing half-done."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(draft / "python")]
        # Wheels only: a source distribution would run its own code.
        _run([*pip, "--only-binary", ":all:", "--require-hashes", "-r", str(wanted.lock)], wanted)
        if wanted.node:
            (draft / "node").mkdir()
            for file in wanted.node_files:
                shutil.copyfile(file, draft / "node" / file.name)
            npm = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(draft / "node")]
            _run(npm, wanted)
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
