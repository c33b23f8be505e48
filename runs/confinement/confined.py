"""A confined command: what it may use, the command line that starts it, and what this machine could not enforce."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from saman.configs.secrecy import is_secret
from saman.runs.confinement import kernel
from saman.runs.files.whole import read_json, write_json


class Means(str, Enum):
    """The parts of a confinement."""

    NETWORK = "network"  # no sockets, and a network namespace without devices where the system allows it
    FILES = "files"  # files change in the named folders only
    MEMORY = "memory"  # of each process
    TIME = "time"  # of the processor; the caller limits the time by the clock


@dataclass(frozen=True)
class Confinement:
    """What a command may use: bytes of memory per process, seconds, and the folders that it may write to."""

    memory_bytes: int
    seconds: float
    writable: tuple[Path, ...] = ()

    def command(self, command: Sequence[str], report: Path) -> list[str]:
        """The command line that starts ``command`` confined; ``report`` receives what could not be enforced."""
        limits = [f"--memory={self.memory_bytes}", f"--seconds={self.seconds:g}", f"--report={report}"]
        folders = [f"--writable={folder}" for folder in self.writable]
        return [sys.executable, "-m", "saman.runs.confinement", *limits, *folders, "--", *command]

    def apply(self) -> dict[Means, str]:
        """Confine this process and all that it starts; returns what could not be done, with the reason."""
        lacking: dict[Means, str] = {}

        def attempt(means: Means, act: Callable[[], None]) -> None:
            try:
                act()
            except (OSError, ValueError, AttributeError) as error:
                lacking[means] = str(error)

        with contextlib.suppress(OSError):
            kernel.die_with_parent()
        attempt(Means.MEMORY, lambda: _limit(resource.RLIMIT_DATA, self.memory_bytes))
        processors = len(os.sched_getaffinity(0))
        attempt(Means.TIME, lambda: _limit(resource.RLIMIT_CPU, max(1, int(self.seconds * processors))))
        attempt(Means.TIME, lambda: _limit(resource.RLIMIT_CORE, 0))
        with contextlib.suppress(OSError):  # a second wall behind seccomp, which many systems do not let users build
            kernel.leave_network()
        attempt(Means.FILES, lambda: kernel.write_only_to(self.writable))
        attempt(Means.NETWORK, kernel.refuse_system_calls)
        return lacking


def _limit(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def write_lacking(report: Path, lacking: Mapping[Means, str]) -> None:
    """Record what could not be enforced."""
    write_json(report, {"schema": 1, "lacking": {means.value: reason for means, reason in lacking.items()}})


def read_lacking(report: Path) -> dict[Means, str]:
    """What could not be enforced; everything if the confined process left no report."""
    found = read_json(report)
    lacking = found.get("lacking") if isinstance(found, dict) else None
    if not isinstance(lacking, dict):
        return dict.fromkeys(Means, "the confinement did not begin")
    return {Means(name): str(reason) for name, reason in lacking.items() if name in set(Means)}


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a confined process: those whose names do not mark them as secret."""
    return {name: value for name, value in environ.items() if not is_secret(name)}
