"""The libraries that ranks would find, as another process imports them: ``python -m saman.trainers.inventory``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from saman.runs.commands import run_command

INVENTORY_SECONDS = 180  # importing TensorFlow from a cold network file system


@dataclass(frozen=True)
class LibraryFacts:
    """A library as its import reports it. ``error`` is why it does not load; other fields apply to some libraries."""

    version: str = ""
    missing: bool = False
    error: str | None = None
    gpus: tuple[str, ...] = ()  # TensorFlow
    cuda: bool = False  # TensorFlow
    legacy: str | None = None  # Keras: the version of tf_keras
    library: str = ""  # mpi4py: the MPI library
    frameworks: tuple[str, ...] = ()  # Horovod
    controllers: tuple[str, ...] = ()  # Horovod
    operations: tuple[str, ...] = ()  # Horovod

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> LibraryFacts:
        """The facts of one part of the inventory; keys of other versions are ignored."""
        known = {key: item for key, item in value.items() if key in cls.__dataclass_fields__}
        typed: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in known.items()}
        return cls(**typed)


@dataclass(frozen=True)
class Inventory:
    """The libraries by name; one that an earlier failure kept from being imported is not in it."""

    libraries: Mapping[str, LibraryFacts] = field(default_factory=dict)

    def get(self, name: str) -> LibraryFacts | None:
        """The facts of a library; ``None`` if it was not reached."""
        return self.libraries.get(name)

    @classmethod
    def from_json(cls, value: Mapping[str, Mapping[str, Any]]) -> Inventory:
        """The inventory that ``saman.trainers.inventory`` printed."""
        return cls({name: LibraryFacts.from_json(facts) for name, facts in value.items()})


def take_inventory() -> Inventory:
    """Import the libraries in another process and read what it prints."""
    command = [sys.executable, "-m", "saman.trainers.inventory"]
    try:
        done = run_command(command, timeout_seconds=INVENTORY_SECONDS)
    except subprocess.TimeoutExpired:
        return _broken(f"importing it took more than {INVENTORY_SECONDS} s")
    if done.returncode < 0:
        return _broken(f"importing it ended with {signal.Signals(-done.returncode).name}")
    try:
        return Inventory.from_json(json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError):
        last = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        return _broken(f"importing it printed: {last}")


def _broken(error: str) -> Inventory:
    return Inventory({"tensorflow": LibraryFacts(error=error)})
