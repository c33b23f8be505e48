"""A node's private folder: its ranks write there, and one process per node gathers from it.

It lies among the node's temporary files, in a folder that only its user can enter.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from saman.runs import locks
from saman.runs.paths.attempt import Attempt
from saman.runs.paths.names import is_number, names_in
from saman.runs.paths.run import RunPaths
from saman.runs.trust.ownership import DubiousFolderError, own_folder

# Not TMPDIR: all processes of a node must agree, and people point it at shared file systems.
_PLACES = (Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"))
# Set in containers, of which each process may have its own, with temporary files of its own.
_CONTAINER_VARIABLES = ("APPTAINER_CONTAINER", "APPTAINER_NAME", "SINGULARITY_CONTAINER", "SINGULARITY_NAME")
NEEDED_BYTES = 256 << 20  # of free space that a place must have: ranks fail on a full disk
STALE_SECONDS = 7 * 86400.0  # after which the folder of a run that did not continue is removed


def make_node_folder(run: RunPaths, attempt: int, node: str) -> Attempt | None:
    """Make, or find, the folder in which the ranks of this node write; ``None`` if no place is safe.

    No place is safe inside a container: the processes of a node may not see each other, and would all write its files.

    Args:
        run: The run.
        attempt: The number of the attempt.
        node: The name of this node.
    """
    if in_container(os.environ):
        return None
    there = [own for own in find_node_folders(run, node) if own.number == attempt and own.rank_folder.is_dir()]
    if there:  # all processes of a node must agree, even if a disk fills up meanwhile
        return there[0]
    for place in _PLACES:
        with contextlib.suppress(OSError, DubiousFolderError):
            if _free_bytes(place) < NEEDED_BYTES:
                continue
            base = own_folder(_base(place), 0o700)
            own = Attempt(base / _name(run, node) / str(attempt))
            requests_folder(own).mkdir(parents=True, exist_ok=True)
            own.telemetry_folder.mkdir(exist_ok=True)
            own.rank_folder.mkdir(exist_ok=True)  # last: it marks the folder as complete
            return own
    return None


def in_container(environ: Mapping[str, str]) -> bool:
    """For the node's folder: whether this process runs in a container of its own (Apptainer, Singularity).

    >>> in_container({"APPTAINER_CONTAINER": "/images/tensorflow.sif"})
    True
    """
    return any(name in environ for name in _CONTAINER_VARIABLES)


def find_node_folders(run: RunPaths, node: str) -> list[Attempt]:
    """Find the folders of a run's attempts that are left on this node, oldest first."""
    found = []
    for place in _PLACES:
        with contextlib.suppress(OSError):
            if _base(place).lstat().st_uid == os.geteuid():
                folder = _base(place) / _name(run, node)
                found += [Attempt(folder / name) for name in names_in(folder) if is_number(name)]
    return sorted(found, key=lambda attempt: attempt.number)


def remove_node_folder(own: Attempt) -> None:
    """Remove the folder of an attempt, and the run's folder if it is then empty."""
    shutil.rmtree(own.path, ignore_errors=True)
    with contextlib.suppress(OSError):
        own.path.parent.rmdir()


def remove_stale_folders(now: float) -> None:
    """Remove folders that have not changed for ``STALE_SECONDS``, as those of runs that a power failure ended.

    Args:
        now: Unix time in seconds.
    """
    for own in _all_folders():
        with contextlib.suppress(OSError):
            if now - _last_change(own) > STALE_SECONDS and locks.holder_of(duty_lock(own)) is None:
                remove_node_folder(own)


def duty_lock(own: Attempt) -> Path:
    """The lock that the gathering process of this node holds."""
    return own.path / "duty"


def requests_folder(own: Attempt) -> Path:
    """Folder of requests: a process that ends asks for gathering with a file of its own."""
    return own.path / "requests"


def progress_file(own: Attempt, kind: str) -> Path:
    """The record of how far the node's files of a kind have been gathered."""
    return own.path / f"gathered-{kind}.json"


def _free_bytes(place: Path) -> int:
    found = os.statvfs(place)
    return found.f_bavail * found.f_frsize


def _base(place: Path) -> Path:
    return place / f"saman-nodes-{os.geteuid()}"


def _name(run: RunPaths, node: str) -> str:
    # The name of the node, too: nodes of a test cluster share their temporary files.
    return hashlib.sha256(f"{run.path}\0{node}".encode(errors="surrogateescape")).hexdigest()[:20]


def _all_folders() -> Iterator[Attempt]:
    for place in _PLACES:
        with contextlib.suppress(OSError):
            if _base(place).lstat().st_uid != os.geteuid():
                continue
        for run in names_in(_base(place)):
            yield from (Attempt(_base(place) / run / name) for name in names_in(_base(place) / run) if is_number(name))


def _last_change(own: Attempt) -> float:
    folders = (own.path, own.rank_folder, own.telemetry_folder)
    return max((folder.stat().st_mtime for folder in folders if folder.exists()), default=time.time())
