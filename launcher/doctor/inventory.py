"""The libraries of the ranks, as another process imports them: ``python -m saman.trainers.inventory``."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

from saman.runs.commands import run_command
from saman.runs.records.inventory import Inventory, LibraryFacts

INVENTORY_SECONDS = 180  # importing TensorFlow from a cold network file system


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
