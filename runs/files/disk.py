"""The file operations of the registry: link, digest, sync and remove."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import UserError

_BLOCK_BYTES = 1 << 20
# No hard link is possible: another file system, a file system without links, or another user's file.
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK})


@dataclass(frozen=True)
class Digest:
    """SHA-256 (hex) and size of a file."""

    sha256: str
    bytes: int


def unique_name() -> str:
    """A file name on disk that is unique among all processes."""
    return f"{os.getpid()}-{secrets.token_hex(6)}"


def digest_file(path: Path) -> Digest:
    """Read a file in blocks and return its SHA-256 and size."""
    total, state = 0, hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            total += len(block)
            state.update(block)
    return Digest(state.hexdigest(), total)


def regular_files(folder: Path) -> Iterator[Path]:
    """Yield every regular file on disk under ``folder`` by its relative path, sorted.

    Raises:
        UserError: A path is a symbolic link, socket or device.
    """
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            yield path.relative_to(folder)
        elif not stat.S_ISDIR(mode):
            kind = "a symbolic link" if stat.S_ISLNK(mode) else "neither a file nor a folder"
            raise UserError(f"this is {kind}", where=str(path), remedy="versions hold plain files only")


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link a file, or copy it where the disk allows no link; the content is on disk on return."""
    try:
        target.hardlink_to(source)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        shutil.copyfile(source, target)
    sync_path(target)


def sync_path(path: Path) -> None:
    """Flush a file or folder to disk; does nothing on a file system that cannot sync folders."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def sync_names(folder: Path, top: Path) -> None:
    """Flush the names of ``folder`` and of the folders above it, up to those in ``top``.

    A folder that was made is safe once its parent is flushed; before that, a power loss may take it with its content.
    """
    for path in (folder, *folder.parents):
        with contextlib.suppress(PermissionError):  # a folder that this user may not list; it was there before
            sync_path(path)
        if path == top:
            return


def sync_folders(folder: Path) -> None:
    """Flush all folders under ``folder`` to disk, deepest first."""
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
        sync_path(path)
    sync_path(folder)


def remove_tree(folder: Path) -> None:
    """Remove a folder, also while other processes remove it."""
    while folder.exists():
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(folder)
