"""Finds the Python that an environment is made from."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from saman.launcher.setup.stacks import SoftwareStack
from saman.runs.commands import COMMAND_ERRORS, run_command

# The candidate runs this; a venv's Python reports its base Python.
_PROBE = """
import json, struct, sys
try:
    import ensurepip, venv
    pip = True
except ImportError:
    pip = False
print(json.dumps({"executable": getattr(sys, "_base_executable", sys.executable), "version": sys.version_info[:3],
                  "bits": struct.calcsize("P") * 8, "ensurepip": pip, "implementation": sys.implementation.name}))
"""


@dataclass(frozen=True)
class Python:
    """An interpreter, by its own report."""

    executable: str
    version: tuple[int, int, int]
    bits: int
    ensurepip: bool  # Debian and Ubuntu ship it apart, in python3-venv
    implementation: str

    @property
    def minor(self) -> tuple[int, int]:
        """Major and minor version, such as ``(3, 11)``."""
        return self.version[:2]

    @property
    def tag(self) -> str:
        """The wheel tag, ``cp311``."""
        return "cp{}{}".format(*self.minor)

    @property
    def text(self) -> str:
        """``3.11.7``."""
        return ".".join(str(part) for part in self.version)

    def suits(self, stack: SoftwareStack) -> bool:
        """Whether ``stack`` has wheels for it."""
        return self.implementation == "cpython" and stack.oldest_python <= self.minor <= stack.newest_python


def probe(command: str) -> Python | None:
    """The interpreter behind ``command``; None if it cannot be started."""
    try:
        done = run_command([command, "-c", _PROBE], timeout_seconds=30)
        facts = json.loads(done.stdout)
    except (ValueError, *COMMAND_ERRORS):
        return None
    return Python(**{**facts, "version": tuple(facts["version"])})


def candidates(stack: SoftwareStack) -> list[str]:
    """The commands to try, in order: this Python, then the newest Python that the stack supports."""
    low, high = stack.oldest_python[1], stack.newest_python[1]
    names = [f"python3.{minor}" for minor in range(high, low - 1, -1)]
    return [sys.executable, *(found for name in names if (found := shutil.which(name)))]


def choose(stack: SoftwareStack, asked: str | None) -> tuple[Python | None, list[Python]]:
    """The Python to use (None without a suitable Python), and the unsuitable Pythons that were tried."""
    others: list[Python] = []
    for command in [asked] if asked else candidates(stack):
        found = probe(command)
        if found and found.suits(stack):
            return found, others
        if found:
            others.append(found)
    return None, others


def of_environment(venv: Path) -> Python | None:
    """The Python that ``venv`` was made from."""
    return probe(str(venv / "bin" / "python"))
