"""Keeps runs on one machine apart: a lock per core. A run takes free cores, or reports that it shares some.

The locks bind only runs of saman. They end with the process that holds them; there is nothing to clean up. Each user's
locks lie in a folder that only this user writes to. The locks of others are looked at, never taken or waited for, so
that no user can stop another's run.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.launcher.node.machine import allowed_cores
from saman.launcher.plan.placement import Placement
from saman.runs import locks
from saman.runs.paths.names import names_in
from saman.runs.trust.ownership import DubiousFolderError, own_folder

GATE_SECONDS = 5.0  # a claim takes milliseconds: a holder beyond this is stopped or dead
_APART = "runs on this machine are not kept apart"
_PREFIX = "saman-cores-"


@dataclass(frozen=True)
class CoreClaim:
    """The cores to which the ranks are restricted, and a note for the user. An empty tuple keeps the planned cores."""

    cores: tuple[int, ...] = ()
    note: str | None = None


def choose_cores(allowed: Sequence[int], free: Sequence[int], wanted: int) -> CoreClaim:
    """Choose cores for a run, and report whether it shares them with other runs. Pure.

    Args:
        allowed: the logical cores that this process may use.
        free: the allowed cores that no other run holds.
        wanted: number of cores that the run pins; 0 if it pins none.

    Returns:
        The cores and a note; no cores if all allowed cores are free, or if too few are.
    """
    taken = len(allowed) - len(free)
    if not taken or not wanted:
        return CoreClaim()
    if len(free) < wanted:
        text = f"other runs of saman hold {taken} of the {len(allowed)} cores here, and this run needs {wanted}"
        return CoreClaim(note=f"{text}: runs share cores and slow each other down")
    cores = tuple(free[:wanted])
    return CoreClaim(
        cores, f"other runs of saman hold {taken} of the {len(allowed)} cores here; this run uses free cores"
    )


@contextlib.contextmanager
def hold_cores(placement: Placement, folder: Path | None = None) -> Iterator[CoreClaim]:
    """Hold the cores that a run on this machine pins until it ends; free cores if there are enough.

    Args:
        placement: the plan of the run.
        folder: the user's folder of claims; by default ``saman-cores-UID`` among the temporary files.

    Yields:
        The claim; without cores, but with a note, if the folder cannot be used or its lock is not free in time.
    """
    wanted = len({core for process in placement.processes for core in process.cores})
    held: dict[int, locks.HeldLock] = {}
    try:
        yield _claim(folder or _users_folder(), allowed_cores(), wanted, held)
    finally:
        for lock in held.values():
            lock.release()


def _users_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"{_PREFIX}{os.geteuid()}"


def _claim(folder: Path, allowed: Sequence[int], wanted: int, held: dict[int, locks.HeldLock]) -> CoreClaim:
    """Claim cores, or say why the run holds none."""
    try:
        own_folder(folder, 0o755)  # read by runs of other users, to see the claimed cores
        with locks.hold(folder / "gate", wait_seconds=GATE_SECONDS, mode=0o600, this_machine=True):
            return _claim_alone(folder, allowed, wanted, held)
    except DubiousFolderError as error:
        return CoreClaim(note=f"{_APART}: {error} (remove it, or set TMPDIR to a folder of your own)")
    except locks.LockHeldError as error:
        return CoreClaim(note=f"{_APART}: {error} for more than {GATE_SECONDS:g} s")
    except OSError as error:
        return CoreClaim(note=f"{_APART}: {folder}: {error.strerror or error} (TMPDIR names another folder)")


def _claim_alone(folder: Path, allowed: Sequence[int], wanted: int, held: dict[int, locks.HeldLock]) -> CoreClaim:
    """Choose among the free cores and lock them; one run of the user at a time."""
    places = [folder, *_other_users(folder)]
    free = [core for core in allowed if not any(locks.holder_of(place / str(core)) for place in places)]
    claim = choose_cores(allowed, free, wanted)
    for core in (claim.cores or tuple(allowed))[:wanted]:
        with contextlib.suppress(locks.LockHeldError):
            held[core] = locks.acquire(folder / str(core), mode=0o644, this_machine=True)
    return claim


def _other_users(folder: Path) -> Iterator[Path]:
    """The claims of other users: hints, which at worst let this run choose other cores. A user has one folder."""
    for name in names_in(folder.parent):
        user = name.removeprefix(_PREFIX)
        if name.startswith(_PREFIX) and user.isdecimal() and name != folder.name:
            with contextlib.suppress(OSError):
                found = (folder.parent / name).lstat()
                if stat.S_ISDIR(found.st_mode) and found.st_uid == int(user):
                    yield folder.parent / name
