"""The cores, GPUs, memory and name of this machine. Read only."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.runs.commands import COMMAND_ERRORS, run_command
from saman.runs.ranks.identity import node_name
from saman.runs.trust.ownership import user_name

_CPU = Path("/sys/devices/system/cpu")
_FIRST_PERSON, _NOBODY = 1000, 65534  # login.defs(5), UID_MIN
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Node:
    """The resources of a node. ``cores`` counts the usable logical cores, ``gpus`` the visible GPUs.

    ``pinnable`` is false if a quota, not a mask, limits the cores: containers would then pin to the same cores.
    """

    name: str
    cores: int
    gpus: int = 0
    memory_bytes: int | None = None
    pinnable: bool = True
    notes: tuple[str, ...] = ()


def this_node(environ: Mapping[str, str] | None = None) -> Node:
    """The resources of this machine that this process may use."""
    environ = os.environ if environ is None else environ
    allowed, notes = len(allowed_cores()), []
    quota = cpu_quota()
    cores = allowed
    if quota is not None and quota < allowed:
        cores = max(1, math.floor(quota))
        notes.append(f"a cgroup quota allows {quota:g} of {allowed} cores; ranks are not pinned to single cores")
    physical = physical_cores(allowed_cores())
    if physical < allowed:
        notes.append(f"{allowed} logical cores lie on {physical} physical cores")
    gpus = visible_gpus(environ)
    return Node(node_name(environ), cores, len(gpus), memory_bytes(), cores == allowed, tuple(notes))


def open_mpi_without_ssh(environ: Mapping[str, str]) -> dict[str, str]:
    """Variables for Open MPI 4 on a node without ssh: it refuses to start, although it never calls ssh there."""
    here = any(shutil.which(name, path=environ.get("PATH")) for name in ("ssh", "rsh"))
    return {} if here or "OMPI_MCA_plm_rsh_agent" in environ else {"OMPI_MCA_plm_rsh_agent": "false"}


def same_node(first: str, second: str) -> bool:
    """Whether two host names mean the same node; a short name equals its fully qualified form."""
    if "." in first and "." in second:
        return first == second
    return first.split(".")[0] == second.split(".")[0]


def other_users(processes: Path = Path("/proc")) -> tuple[str, ...]:
    """Names of other users with processes on this machine, without system accounts."""
    found = set()
    for entry in processes.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                found.add(entry.stat().st_uid)
    people = {uid for uid in found if _FIRST_PERSON <= uid != _NOBODY} - {os.geteuid()}
    return tuple(sorted(user_name(uid) for uid in people))


def allowed_cores() -> list[int]:
    """The logical cores this process may use, siblings of one physical core next to each other."""
    return sorted(os.sched_getaffinity(0), key=lambda core: (*_physical(core), core))


def physical_cores(cores: Sequence[int]) -> int:
    """Number of physical cores behind these logical cores."""
    return len({_physical(core) for core in cores})


def _physical(core: int) -> tuple[int, int]:
    folder = _CPU / f"cpu{core}" / "topology"
    try:
        return int((folder / "physical_package_id").read_text()), int((folder / "core_id").read_text())
    except (OSError, ValueError):
        return 0, core


def cpu_quota(root: Path = _CGROUP, groups: str | None = None) -> float | None:
    """The smallest CPU quota of this process's control groups, in cores; ``None`` without a quota."""
    quotas = []
    for folder in _cgroups(root, "cpu", groups):
        try:
            quota, period = (folder / "cpu.max").read_text().split()  # cgroup v2
        except (OSError, ValueError):
            try:  # cgroup v1
                quota = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            except OSError:
                continue
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_bytes(root: Path = _CGROUP, groups: str | None = None) -> int | None:
    """Memory that may be used: the machine's, or the tightest limit of this process's control groups."""
    try:
        limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    except (ValueError, OSError):
        limits = []
    for folder in _cgroups(root, "memory", groups):
        for name in ("memory.max", "memory.limit_in_bytes"):
            try:
                text = (folder / name).read_text().strip()
            except OSError:
                continue
            limits += [int(text)] if text.isdigit() else []
    return min(limits, default=None)


def _cgroups(root: Path, controller: str, groups: str | None) -> list[Path]:
    """This process's control group and those above it; ``groups`` is the text of /proc/self/cgroup."""
    if groups is None:
        try:
            groups = Path("/proc/self/cgroup").read_text()
        except OSError:
            groups = ""
    found = [root, root / controller]
    for line in groups.splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if controllers and controller not in controllers.split(","):
            continue
        folder = (root / controller if controllers else root) / path.lstrip("/")
        found += [place for place in (folder, *folder.parents) if place != root and root in place.parents]
    return list(dict.fromkeys(found))


def gpu_variable(environ: Mapping[str, str]) -> str:
    """This node's variable of usable GPUs; Slurm sets only ROCm's where it knows the GPUs as AMD's."""
    names = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
    return next((name for name in names if name in environ), names[0])


def visible_gpus(environ: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that this process may use: those of the variable of its vendor, else all of nvidia-smi's."""
    chosen = environ.get(gpu_variable(environ))
    if chosen is not None:
        return listed_gpus(chosen)
    if shutil.which("nvidia-smi") is None:
        return []
    try:
        found = run_command(["nvidia-smi", "-L"], timeout_seconds=20)
    except COMMAND_ERRORS:
        return []
    lines = [line for line in found.stdout.splitlines() if line.startswith("GPU ")]
    return [str(index) for index in range(len(lines))] if found.returncode == 0 else []


def listed_gpus(text: str) -> list[str]:
    """This node's GPUs by a CUDA_VISIBLE_DEVICES value; CUDA ignores everything from the first invalid entry on."""
    names = []
    for entry in (part.strip() for part in text.split(",")):
        if not entry or entry.startswith("-"):
            break
        names.append(entry)
    return names
