"""Programs that stand for Slurm's commands: each notes its arguments and does what its line of bash says."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def stubs(folder: Path, commands: Mapping[str, str]) -> str:
    """Write the commands; returns the PATH on which no other Slurm is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in commands.items():
        file = folder / name
        file.write_text(f'#!/bin/bash\necho "{name} $*" >>{folder}/calls\nPATH=$PATH:/usr/bin:/bin\n{text}\n')
        file.chmod(0o755)
    system = [entry for entry in os.environ["PATH"].split(":") if not (Path(entry) / "sbatch").exists()]
    for name in ("bash", "cat", "git"):  # beside a real Slurm
        if not any((Path(entry) / name).exists() for entry in system):
            (folder / name).symlink_to(next(Path(e) / name for e in ("/usr/bin", "/bin") if (Path(e) / name).exists()))
    return ":".join([str(folder), *system])


def calls(folder: Path) -> list[str]:
    """The commands and their arguments, in order."""
    file = folder / "calls"
    return file.read_text().splitlines() if file.exists() else []
