"""Reads docs/tutorial.md: its files, and its commands section by section."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

TEXT = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def write_files(folder: Path, smaller: dict[str, str]) -> None:
    """Write every file of the tutorial, named by its first line, with each key of ``smaller`` replaced."""
    for kind, block in _BLOCK.findall(TEXT):
        if kind:
            name = block.partition("\n")[0].removeprefix("# ")
            for before, after in smaller.items():
                block = block.replace(before, after)
            (folder / name).write_text(block)


def commands(section: int) -> list[str]:
    """The commands in the code blocks of a numbered section."""
    text = re.split(r"^## \d\. ", TEXT, flags=re.M)[section]
    lines = [line for kind, block in _BLOCK.findall(text) if not kind for line in block.splitlines()]
    return [line.partition("  #")[0].strip() for line in lines]


def carry_out(command: str, folder: Path, seconds: float = 240) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder`` as in a shell with saman's environment active."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "VIRTUAL_ENV": sys.prefix}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=seconds
    )
