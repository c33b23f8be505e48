"""Which cores other runs on this machine hold: a lock per core, so that a run takes free ones, or says that it shares.

The locks are advice among runs of saman. They end with the process that holds them; nothing is left to clean up.
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
    """The cores that the ranks should keep to (none: as planned, from the first on), and what to say about it."""

    cores: tuple[int, ...] = ()
    note: str | None = None


def choose(allowed: Sequence[int], free: Sequence[int], wanted: int) -> CoreClaim:
    """The claim of a run that pins ``wanted`` of the ``allowed`` cores, of which only ``free`` are held by nobody."""
    taken = len(allowed) - len(free)
    if not taken or not wanted:
        return CoreClaim()
    if len(free) < wanted:
        text = f"other runs of saman hold {taken} of the {len(allowed)} cores here, and this one asks for {wanted}"
        return CoreClaim(note=f"{text}: runs share cores and slow each other down")
    cores = tuple(free[:wanted])
    return CoreClaim(
        cores, f"other runs of saman hold {taken} of the {len(allowed)} cores here; this one takes free ones"
    )


@contextlib.contextmanager
def claimed(placement: Placement, folder: Path | None = None) -> Iterator[CoreClaim]:
    """Hold the cores that a run on this machine pins, free ones where there are enough, until it has ended."""
    wanted = len({core for process in placement.processes for core in process.cores})
    folder, held = folder or Path(tempfile.gettempdir()) / "saman-core-locks", dict[int, locks.HeldLock]()
    try:
        allowed = allowed_cores()
        try:
            claim = _claim(folder, allowed, wanted, held)
        except OSError:  # the folder is not to be used: nobody knows of anybody
            claim = CoreClaim()
        yield claim
    finally:
        for lock in held.values():
            lock.release()


def _claim(folder: Path, allowed: Sequence[int], wanted: int, held: dict[int, locks.HeldLock]) -> CoreClaim:
    """Lock what is free, choose, and let go what is not wanted; one run at a time."""
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o1777)  # for every user's runs, like the folder above it
    gate = locks.acquire(folder / "gate", wait_seconds=None, everyone=True)
    try:
        for core in allowed:
            with contextlib.suppress(locks.LockHeldError):
                held[core] = locks.acquire(folder / str(core), everyone=True)
        claim = choose(allowed, tuple(held), wanted)
        kept = (claim.cores or tuple(allowed))[:wanted]
        for core in [core for core in held if core not in kept]:
            held.pop(core).release()
        return claim
    finally:
        gate.release()
