"""Finds the MPI of this machine: flavour and version, from the output of ``mpirun --version``."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from saman.runs.commands import COMMAND_ERRORS, run_command


class Flavour(str, Enum):
    """MPI families: each has its own flags of ``mpirun``."""

    OPEN_MPI = "Open MPI"
    MPICH = "MPICH"
    INTEL = "Intel MPI"


@dataclass(frozen=True)
class MpiInstallation:
    """An ``mpirun``, and the flavour and version of its MPI."""

    flavour: Flavour
    version: tuple[int, ...]
    mpirun: str

    def __str__(self) -> str:
        return f"{self.flavour.value} {'.'.join(map(str, self.version))}"

    @property
    def abi(self) -> str:
        """``openmpi`` or ``mpich``: libraries of one family do not run under the other's mpirun."""
        return "openmpi" if self.flavour is Flavour.OPEN_MPI else "mpich"


_SAYS = (
    (Flavour.OPEN_MPI, re.compile(r"\(Open MPI\) v?(\d[\d.]*)|OpenRTE\) (\d[\d.]*)|PRRTE\) v?(\d[\d.]*)")),
    (Flavour.INTEL, re.compile(r"Intel\(R\) MPI Library.*?Version (\d[\d.]*)", re.DOTALL)),
    (Flavour.MPICH, re.compile(r"HYDRA build details:.*?Version:\s*(\d[\d.]*)|MPICH Version:\s*(\d[\d.]*)", re.DOTALL)),
)


def parse_version(text: str) -> tuple[Flavour, tuple[int, ...]] | None:
    """Flavour and version in the output of ``mpirun --version``; ``None`` for an unknown MPI."""
    for flavour, pattern in _SAYS:
        match = pattern.search(text)
        if match:
            number = next(group for group in match.groups() if group)
            return flavour, tuple(int(part) for part in number.split(".") if part)
    return None


def find_mpi(
    environ: Mapping[str, str] | None = None, beside: Path | None = Path(sys.executable).parent
) -> MpiInstallation | None:
    """The MPI that would start ranks here; ``None`` without a working ``mpirun``.

    The MPI of this interpreter's environment (a wheel, in ``beside``) comes before the first on PATH.
    """
    environ = os.environ if environ is None else environ
    mpirun = shutil.which("mpirun", path=str(beside)) if beside else None
    mpirun = mpirun or shutil.which("mpirun", path=environ.get("PATH", os.defpath))
    if mpirun is None:
        return None
    # Intel's mpirun is a script that looks for mpiexec.hydra on PATH.
    path = os.pathsep.join([str(Path(mpirun).parent), environ.get("PATH", os.defpath)])
    try:
        said = run_command([mpirun, "--version"], timeout_seconds=30, environment={**os.environ, "PATH": path})
    except COMMAND_ERRORS:
        return None
    found = parse_version(said.stdout + said.stderr)
    return MpiInstallation(*found, mpirun) if found else None
