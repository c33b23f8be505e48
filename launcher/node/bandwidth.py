"""The memory bandwidth of this machine: measured once by a process of its own, then read from the cache."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path

from saman.launcher.node.cpu import cpu_model
from saman.launcher.node.machine import allowed_cores
from saman.runs.caches import cache_folder
from saman.runs.commands import COMMAND_ERRORS, run_command
from saman.runs.files.whole import read_json
from saman.runs.records.provenance import MemoryBandwidth

_log = logging.getLogger(__name__)
_LONGEST_SECONDS = 60.0


def known_bandwidth() -> MemoryBandwidth | None:
    """The bandwidth from the cache; ``None`` if it was not measured on such a processor."""
    return MemoryBandwidth.from_json(read_json(_file()))


def measure_bandwidth() -> MemoryBandwidth | None:
    """The bandwidth from the cache, or measured now in about two seconds; ``None`` if that fails.

    Call it while nothing else runs: beside a training nothing is measured.
    """
    found = known_bandwidth()
    if found is not None:
        return found
    file = _file()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        done = run_command(
            [sys.executable, "-m", "saman.launcher.node.triad", str(file)], timeout_seconds=_LONGEST_SECONDS
        )
    except (OSError, *COMMAND_ERRORS) as error:
        _log.warning("the memory bandwidth is not known: %s", error)
        return None
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        _log.info("the memory bandwidth is not known: %s", last[0])
    return known_bandwidth()


def _file() -> Path:
    identity = f"{cpu_model()} × {len(allowed_cores())}"
    return cache_folder() / "profiles" / f"memory-{hashlib.sha256(identity.encode()).hexdigest()[:24]}.json"
