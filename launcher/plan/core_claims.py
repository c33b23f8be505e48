"""Keeps runs on one machine apart: a lock per core. A run takes free cores, or reports that it shares some.

The locks bind only runs of saman. They end with the process that holds them; there is nothing to clean up.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.launcher.node.machine import allowed_cores
from saman.launcher.plan.placement import Placement
from saman.runs import locks


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
    """Hold the cores that a run on this machine pins until it ends; free cores if there are enough."""
    wanted = len({core for process in placement.processes for core in process.cores})
    folder, held = folder or Path(tempfile.gettempdir()) / "saman-core-locks", dict[int, locks.HeldLock]()
    try:
        allowed = allowed_cores()
        try:
            claim = _claim(folder, allowed, wanted, held)
        except OSError:  # the folder cannot be used: no run knows the others
            claim = CoreClaim()
        yield claim
    finally:
        for lock in held.values():
            lock.release()


def _claim(folder: Path, allowed: Sequence[int], wanted: int, held: dict[int, locks.HeldLock]) -> CoreClaim:
    """Lock the free cores, choose among them, release the others; one run at a time."""
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)  # for every user's runs, like the folder above it
    gate = locks.acquire(folder / "gate", wait_seconds=None, everyone=True)
    try:
        for core in allowed:
            with contextlib.suppress(locks.LockHeldError):
                held[core] = locks.acquire(folder / str(core), everyone=True)
        claim = choose_cores(allowed, tuple(held), wanted)
        kept = (claim.cores or tuple(allowed))[:wanted]
        for core in [core for core in held if core not in kept]:
            held.pop(core).release()
        return claim
    finally:
        gate.release()
