"""Checks this machine before any download: reports everything that is missing at once, each with its remedy."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.launcher.setup import pythons
from saman.launcher.setup.pythons import Python
from saman.launcher.setup.stacks import SetupRequest, SoftwareStack
from saman.runs import variables
from saman.runs.commands import COMMAND_ERRORS, run_command

GIB = 2**30
# Measured on x86-64 with TensorFlow 2.21 (2.3 GiB) and rounded up; CUDA's wheels add about 5 GiB.
ENVIRONMENT_BYTES = 3 * GIB
GPU_ENVIRONMENT_BYTES = 9 * GIB
BUILD_BYTES = GIB // 2
DOWNLOAD_BYTES = GIB // 2
OLDEST_GCC = 9  # TensorFlow's headers are C++17 since 2.11


def lacks(
    request: SetupRequest, python: Python | None, others: list[Python], cache: Path, *, build: bool
) -> list[EnvironmentLack]:
    """Everything missing for a set-up.

    Args:
        request: the set-up.
        python: the Python to use; ``None`` if no suitable Python was found.
        others: the unsuitable Pythons.
        cache: the folder of cached wheels.
        build: whether Horovod must be compiled, because it is not cached.
    """
    found = [platform_lack(), *python_lacks(request, python, others), *space_lacks(request, cache)]
    if build:
        found += [compiler_lack(), tool_lack("make", "make")]
    if request.mpi == "system":
        found += [system_mpi_lack(name) for name in ("mpicxx", "mpirun")]
    if request.gpu:
        found += gpu_lacks()
    return [lack for lack in found if lack]


def platform_lack() -> EnvironmentLack | None:
    """Whether this is 64-bit Linux on x86 with the GNU C library, as the wheels need it."""
    here = f"{platform.system()} on {platform.machine()}"
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return EnvironmentLack(f"{here} is not supported", remedy="use Linux on x86_64, also in a container or WSL 2")
    if platform.libc_ver()[0] != "glibc":
        return EnvironmentLack(
            "TensorFlow needs the GNU C library, which this Linux lacks", remedy="use Debian or Ubuntu"
        )
    return None


def python_lacks(request: SetupRequest, python: Python | None, others: list[Python]) -> list[EnvironmentLack]:
    """Problems of the Python: out of range, 32-bit, or without ``ensurepip``.

    Args:
        request: the set-up.
        python: the Python to use; ``None`` if no suitable Python was found.
        others: the unsuitable Pythons.
    """
    stack = request.stack
    if python is None:
        return [_no_python(stack, request.python, others)]
    found = []
    if python.bits != 64:
        found.append(
            EnvironmentLack(f"{python.executable} is a {python.bits}-bit Python", remedy="use a 64-bit Python")
        )
    if not python.ensurepip and not request.in_place:
        package = "python{}.{}-venv".format(*python.minor)
        text = f"{python.executable} cannot make environments (no ensurepip)"
        found.append(EnvironmentLack(text, remedy=f"apt install {package}"))
    return found


def _no_python(stack: SoftwareStack, asked: str | None, others: list[Python]) -> EnvironmentLack:
    remedy = f"install Python {stack.pythons} and name it with --python /path/to/python3"
    needs = f"TensorFlow {stack.tensorflow} needs Python {stack.pythons}"
    if asked and not others:
        return EnvironmentLack(f"{asked!r} is not a Python that can be started", remedy=remedy)
    seen = ", ".join(f"{python.text} ({python.executable})" for python in others) or "none"
    return EnvironmentLack(f"{needs}; found: {seen}", remedy=remedy)


def compiler() -> str:
    """The C++ compiler that CMake will use."""
    return os.environ.get("CXX") or next((name for name in ("c++", "g++", "clang++") if shutil.which(name)), "c++")


def compiler_version() -> str | None:
    """``gcc-12`` or ``clang-16``; None without a working compiler."""
    try:
        command = [*compiler().split(), "--version"]
        done = run_command(command, timeout_seconds=30)
    except COMMAND_ERRORS:
        return None
    text = done.stdout if done.returncode == 0 else ""
    # "g++ (Debian 12.2.0-14) 12.2.0": the last version of the first line; "Debian clang version 16.0.6"
    first = text.splitlines()[0] if text else ""
    numbers = re.findall(r"(\d+)\.\d+(?:\.\d+)?", re.sub(r"\([^)]*\)", "", first))
    family = "clang" if "clang" in first else "gcc"
    return f"{family}-{numbers[-1]}" if numbers else None


def compiler_lack() -> EnvironmentLack | None:
    """Whether the compiler is missing or too old for C++17."""
    version = compiler_version()
    if version is None:
        return EnvironmentLack("no C++ compiler, which the build of Horovod needs", remedy="apt install g++")
    family, _, major = version.partition("-")
    if family == "gcc" and int(major) < OLDEST_GCC:
        remedy = f"install g++ {OLDEST_GCC} or newer and set CXX to it"
        return EnvironmentLack(f"g++ {major} is too old for TensorFlow's headers", remedy=remedy)
    return None


def tool_lack(name: str, package: str) -> EnvironmentLack | None:
    """Whether a program that the build needs is missing."""
    if shutil.which(name):
        return None
    return EnvironmentLack(f"no {name} on PATH, which the build of Horovod needs", remedy=f"apt install {package}")


def system_mpi(name: str) -> str | None:
    """The machine's ``mpirun`` or ``mpicxx`` for a set-up with ``--mpi system``, outside Python environments."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    kept = [folder for folder in folders if not (Path(folder).parent / "pyvenv.cfg").exists()]
    return shutil.which(name, path=os.pathsep.join(kept))


def system_mpi_lack(name: str) -> EnvironmentLack | None:
    """Whether ``--mpi system`` finds no MPI on PATH."""
    if system_mpi(name):
        return None
    remedy = "load the site's MPI module or apt install libopenmpi-dev openmpi-bin; --mpi wheel needs neither"
    return EnvironmentLack(f"--mpi system, but no {name} on PATH", remedy=remedy)


def gpu_lacks() -> list[EnvironmentLack]:
    """Whether Horovod's NCCL build lacks the CUDA compiler or NCCL's header."""
    cuda = next((Path(os.environ[name]) for name in ("HOROVOD_CUDA_HOME", "CUDA_HOME") if os.environ.get(name)), None)
    nvcc = shutil.which("nvcc") or (cuda and (cuda / "bin" / "nvcc").exists())
    found = []
    if not nvcc:
        remedy = "load the site's CUDA module, or set HOROVOD_CUDA_HOME to the toolkit's folder"
        found.append(EnvironmentLack("--gpu, but no CUDA toolkit (nvcc)", remedy=remedy))
    homes = [os.environ.get("HOROVOD_NCCL_HOME"), os.environ.get("NCCL_HOME"), cuda, "/usr", "/usr/local/cuda"]
    if not any((Path(home) / "include" / "nccl.h").exists() for home in homes if home):
        remedy = "install libnccl-dev, or set HOROVOD_NCCL_HOME to NCCL's folder"
        found.append(EnvironmentLack("--gpu, but no NCCL header (nccl.h)", remedy=remedy))
    return found


def space_lacks(request: SetupRequest, cache: Path) -> list[EnvironmentLack]:
    """Whether there is too little space for environment, wheel cache and downloads, summed per file system."""
    temporary = Path(os.environ.get("TMPDIR") or "/tmp")
    environment = GPU_ENVIRONMENT_BYTES if request.gpu else ENVIRONMENT_BYTES
    needs = [(request.venv, environment), (cache, BUILD_BYTES), (temporary, DOWNLOAD_BYTES)]
    found: list[EnvironmentLack] = []
    per_device: dict[int, tuple[Path, int]] = {}
    for path, size in needs:
        place = existing(path)
        if not os.access(place, os.W_OK):
            found.append(_unwritable(path, place))
            continue
        where, total = per_device.get(place.stat().st_dev, (place, 0))
        per_device[place.stat().st_dev] = (where, total + size)
    for where, total in per_device.values():
        free = shutil.disk_usage(where).free
        if free < total:
            text = f"too little space: {free / GIB:.1f} GiB free, about {total / GIB:.1f} GiB needed"
            remedy = f"free some, or choose another place with --venv, {variables.CACHE_DIR} or TMPDIR"
            found.append(EnvironmentLack(text, where=str(where), remedy=remedy))
    return found


def _unwritable(path: Path, place: Path) -> EnvironmentLack:
    remedy = f"choose another place with --venv, {variables.CACHE_DIR} or TMPDIR"
    return EnvironmentLack(f"{place} is not writable", where=str(path), remedy=remedy)


def existing(path: Path) -> Path:
    """``path`` of the set-up, or its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def choose_python(request: SetupRequest) -> tuple[Python | None, list[Python]]:
    """The Python for ``request``; in place it is this Python."""
    if not request.in_place:
        return pythons.choose(request.stack, request.python)
    here = pythons.probe(sys.executable)
    return (here, []) if here and here.suits(request.stack) else (None, [here] if here else [])
