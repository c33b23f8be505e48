"""Reads from its library file what a Horovod installation was built with; imports nothing heavy."""

from __future__ import annotations

import mmap
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from saman.runs.commands import COMMAND_ERRORS, run_command

_SONAMES = {"openmpi": b"libmpi.so.40\0", "mpich": b"libmpi.so.12\0"}
_OTHER_MPICH = (b"libmpich.so.12\0", b"libmpi_abi.so.0\0")
_FIND = "import importlib.util as u; s = u.find_spec({name!r}); print(s.origin if s and s.origin else '')"


@dataclass(frozen=True)
class HorovodBuild:
    """How Horovod was built. ``mpi`` is the family of its MPI library; ``None`` without MPI."""

    mpi: str | None
    gloo: bool


def horovod_build(python: str | None = None) -> HorovodBuild | None:
    """The Horovod that ``python`` (by default this interpreter) would import; ``None`` without Horovod."""
    origin = module_origin("horovod", python)
    if not origin:
        return None
    libraries = sorted(Path(origin).parent.glob("*/mpi_lib*.so"))
    return read_build(libraries[0]) if libraries else None


def module_origin(name: str, python: str | None = None) -> str | None:
    """The file of a top-level module in ``python``'s environment, found without importing it."""
    if python is None or Path(python) == Path(sys.executable):
        spec = find_spec(name)
        return spec.origin if spec else None
    try:
        found = run_command([python, "-c", _FIND.format(name=name)], timeout_seconds=60)
    except COMMAND_ERRORS:
        return None
    return found.stdout.strip() or None


def read_build(library: Path) -> HorovodBuild:
    """The libraries that a Horovod library is linked with, by the names in its dynamic section."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        family = next((family for family, name in _SONAMES.items() if data.find(name) >= 0), None)
        if family is None and any(data.find(name) >= 0 for name in _OTHER_MPICH):
            family = "mpich"
        return HorovodBuild(family, data.find(b"HOROVOD_GLOO_RENDEZVOUS_ADDR") >= 0)
