"""Checks that hold for a folder of runs and for a folder of models: the way to it, locks, planted files, secrets."""

from __future__ import annotations

import os
from pathlib import Path

from saman.jobs.security.finding import Check, CheckResult, Risk, some
from saman.jobs.security.tree import Tree
from saman.runs import locks
from saman.runs.trust.ownership import Doubt, Fault, find_doubt


def check_way(check: Check, folder: Path) -> CheckResult:
    """Whether others can exchange the folder: who may write to a folder above it, or owns that, can rename it."""
    place = folder.resolve()
    doubts = [doubt for each in (place, *place.parents) if (doubt := find_doubt(each)) is not None]
    writable = [doubt for doubt in doubts if doubt.fault is Fault.WRITABLE]
    if writable:
        found = f"others can exchange what lies in {folder}: {some(writable)}"
        risk = Risk.DANGER if any(_by_everyone(doubt) for doubt in writable) else Risk.WARNING
        return CheckResult(check, risk, found, f"chmod +t {writable[0].path}: then nobody renames another's files")
    if doubts:
        return CheckResult(check, Risk.NOTE, f"its owners can exchange what lies below: {some(doubts)}")
    return CheckResult(check, Risk.NONE, f"{folder}: nobody else can exchange it")


def _by_everyone(doubt: Doubt) -> bool:
    return bool(doubt.path.stat().st_mode & 0o002)


def missing(check: Check, folder: Path) -> CheckResult:
    """The result where there is no folder to check."""
    return CheckResult(check, Risk.NOTE, f"{folder} does not exist: nothing in it was checked")


def check_locks(check: Check, folder: Path) -> CheckResult:
    """Whether the file system has file locks, by which runs and publishers keep apart."""
    if not os.access(folder, os.W_OK | os.X_OK):
        return CheckResult(check, Risk.NONE, "not needed: you may only read here")
    try:
        found = locks.has_locks(folder)
    except OSError as error:
        return CheckResult(check, Risk.NOTE, f"unknown: no file can be made in {folder}: {error.strerror or error}")
    if found:
        return CheckResult(check, Risk.NONE, "the file system has file locks")
    remedy = "the administrator: mount Lustre with -o flock, NFS with locking; or choose another folder"
    return CheckResult(check, Risk.WARNING, f"no file locks in {folder}: leases take their place", remedy)


def check_planted(check: Check, tree: Tree) -> CheckResult:
    """Whether somebody put FIFOs, devices, sockets or links where saman reads files."""
    if tree.planted:
        found = f"special files or links of others: {some(tree.planted)}"
        return CheckResult(check, Risk.DANGER, found, "find out who put them there (ls -l), and remove them")
    cut = "; only the first were looked at" if tree.cut else ""
    return CheckResult(check, Risk.NONE, f"{len(tree.files)} files, no special files{cut}")


def check_secrets(check: Check, tree: Tree) -> CheckResult:
    """Whether files that others may read seem to hold secrets."""
    found = tree.readable_secrets()
    if found:
        text = f"files that others may read seem to hold secrets: {some(found)}"
        return CheckResult(check, Risk.DANGER, text, "chmod go-r, and replace the secret where it was issued")
    return CheckResult(check, Risk.NONE, "no file that others may read seems to hold a secret")
