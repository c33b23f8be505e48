"""Another user of the machine: runs an attack script as ``nobody`` where root allows it, else as this user."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

NOBODY = 65534
_CANDIDATES = (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3")


def _interpreter() -> tuple[str, dict[str, int]]:
    """A Python for the attack, and the user to run it as."""
    if os.geteuid() == 0:
        for python in _CANDIDATES:
            with contextlib.suppress(OSError):
                if subprocess.run([python, "-I", "-c", ""], user=NOBODY, group=NOBODY, cwd="/").returncode == 0:
                    return python, {"user": NOBODY, "group": NOBODY}
    return sys.executable, {}


@contextlib.contextmanager
def stranger(script: str, *arguments: object) -> Iterator[str]:
    """Run ``script`` (the text of a Python program) as another user; yields the first line that it prints."""
    python, who = _interpreter()
    argv = [python, "-I", "-c", script, *map(str, arguments)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd="/", **who)  # type: ignore[call-overload]
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said, "the attack did not begin"
        yield said.strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def attack(name: str) -> str:
    """The text of an attack script beside the tests."""
    return (Path(__file__).parent / "attacks" / name).read_text()
