"""Checks the machine: the user, the temporary folder, the kernel's protections, who else is here."""

from __future__ import annotations

import contextlib
import grp
import os
import tempfile
from pathlib import Path

from saman.jobs.security.finding import Check, CheckResult, Risk, some
from saman.launcher.node.machine import other_users
from saman.runs.commands import COMMAND_ERRORS, run_command
from saman.runs.confinement.confined import Confinement, read_lacking
from saman.runs.trust.ownership import find_doubt

_PROTECTIONS = ("protected_symlinks", "protected_hardlinks", "protected_fifos", "protected_regular")


def check_machine() -> list[CheckResult]:
    """Every check of the machine; takes well under a second."""
    return [check_user(), check_umask(), check_temporary_folder(), check_kernel(), check_others(), check_confinement()]


def check_user(user: int | None = None) -> CheckResult:
    """Whether saman runs as root."""
    if (os.geteuid() if user is None else user) == 0:
        found = "saman runs as root: a mistake, or a model that executes code, has every right"
        return CheckResult(Check.USER, Risk.WARNING, found, "run saman as an ordinary user")
    return CheckResult(Check.USER, Risk.NONE, "an ordinary user")


def check_umask(umask: int | None = None) -> CheckResult:
    """Whether other users may write to new files."""
    if umask is None:
        umask = os.umask(0o077)  # the only way to read it is to set it
        os.umask(umask)
    if not umask & 0o002:
        return CheckResult(Check.UMASK, Risk.DANGER, f"umask {umask:03o}: everyone may write to new files", "umask 022")
    if not umask & 0o020:
        group = _group_name(os.getegid())
        found = f"umask {umask:03o}: the group may write to new files (saman's deciding files excepted): {group}"
        return CheckResult(Check.UMASK, Risk.NOTE, found, "umask 022, if others are in the group")
    return CheckResult(Check.UMASK, Risk.NONE, f"umask {umask:03o}")


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return f"group {group}"


def check_temporary_folder(folder: Path | None = None) -> CheckResult:
    """Whether others can exchange temporary files."""
    folder = folder or Path(tempfile.gettempdir())
    doubt = find_doubt(folder.resolve())
    if doubt is not None:
        remedy = f"chmod +t {folder} (its owner), or set TMPDIR to a folder of your own"
        return CheckResult(Check.TEMPORARY, Risk.DANGER, f"{doubt}, so that they can exchange your files", remedy)
    return CheckResult(Check.TEMPORARY, Risk.NONE, f"{folder}: others cannot exchange your files")


def check_kernel(folder: Path = Path("/proc/sys/fs")) -> CheckResult:
    """Whether the kernel refuses to follow links, and to open FIFOs and files, that others put into sticky folders."""
    off = []
    for name in _PROTECTIONS:
        try:
            if int((folder / name).read_text()) == 0:
                off.append(f"fs.{name}")
        except (OSError, ValueError):
            off.append(f"fs.{name}")
    if off:
        remedy = f"the administrator: sysctl -w {' '.join(f'{name}=1' for name in off)}"
        return CheckResult(
            Check.KERNEL, Risk.NOTE, f"the kernel does not protect /tmp: {', '.join(off)} is off", remedy
        )
    return CheckResult(Check.KERNEL, Risk.NONE, "on")


def check_others(processes: Path = Path("/proc")) -> CheckResult:
    """Whether other people have processes on this machine."""
    people = other_users(processes)
    if people:
        found = f"other users have processes here ({some(people)}): they reach every port that is open on this machine"
        return CheckResult(Check.SHARED, Risk.WARNING, found, "train on a node of your own: #SBATCH --exclusive")
    if not (processes / "1").exists():
        return CheckResult(Check.SHARED, Risk.NOTE, "unknown: /proc hides other users' processes (hidepid)")
    return CheckResult(Check.SHARED, Risk.NONE, "no other person has a process here now")


def check_confinement() -> CheckResult:
    """Security check: whether the process that loads a candidate model can be confined here, tried for real."""
    with tempfile.TemporaryDirectory(prefix="saman-") as scratch:
        report = Path(scratch, "report.json")
        with contextlib.suppress(*COMMAND_ERRORS):
            run_command(Confinement(1 << 30, 10.0).command(["true"], report), timeout_seconds=30)
        lacking = read_lacking(report)
    if lacking:
        parts = ", ".join(f"{means.value} ({reason})" for means, reason in lacking.items())
        remedy = "the administrator: Linux 5.13 or newer, with seccomp and Landlock"
        return CheckResult(Check.CONFINEMENT, Risk.WARNING, f"candidate models load without a limit of {parts}", remedy)
    found = "candidate models load without network, with limited memory and time, and write to their output only"
    return CheckResult(Check.CONFINEMENT, Risk.NONE, found)
