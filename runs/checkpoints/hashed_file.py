"""A file that is hashed while it is written, past the page cache where the file system allows it.

Through the page cache a checkpoint costs the kernel two to four times as much CPU, which the training lacks, and evicts
the training's input. So whole blocks are written with ``O_DIRECT`` from memory that is aligned to pages.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

BLOCK_BYTES = 4 << 20
_DIRECT = getattr(os, "O_DIRECT", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class HashedFile:
    """Takes bytes from the start to the end, without seeking, so that the digest is ready with the last byte."""

    def __init__(self, path: Path) -> None:
        self.written = 0
        self._digest = hashlib.sha256()
        self._file, self._direct = _open(path)
        self._memory = mmap.mmap(-1, BLOCK_BYTES)
        self._block = np.frombuffer(self._memory, np.uint8)
        self._filled = 0

    @property
    def sha256(self) -> str:
        """The digest of what was written, once ``sync`` has returned."""
        return self._digest.hexdigest()

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        del self._block
        with contextlib.suppress(BufferError):  # an error's traceback may hold a view; the memory goes with it
            self._memory.close()

    def write(self, data: Any) -> int:
        """Append ``data``."""
        left = np.frombuffer(memoryview(data).cast("B"), np.uint8)
        size = len(left)
        while len(left):
            part = left[: BLOCK_BYTES - self._filled]
            self._block[self._filled : self._filled + len(part)] = part
            self._filled, left = self._filled + len(part), left[len(part) :]
            if self._filled == BLOCK_BYTES:
                self._write_block()
        self.written += size
        return size

    def flush(self) -> None:
        """Do nothing: only whole blocks are written, and the last one by ``sync``."""

    def sync(self) -> None:
        """Write the last block, and wait until the file is on disk."""
        self._stop_direct()  # the last block may have any length
        self._write_block()
        os.fsync(self._file)

    def _write_block(self) -> None:
        left = self._block[: self._filled].data
        self._digest.update(left)
        while left:
            try:
                left = left[os.write(self._file, left) :]
            except OSError as error:
                if not self._direct or error.errno != errno.EINVAL:
                    raise
                self._stop_direct()  # this file system opens the file so, and cannot write to it
            if left:
                self._stop_direct()  # the rest is not aligned
        self._filled = 0

    def _stop_direct(self) -> None:
        if self._direct:
            fcntl.fcntl(self._file, fcntl.F_SETFL, fcntl.fcntl(self._file, fcntl.F_GETFL) & ~_DIRECT)
            self._direct = False


def _open(path: Path) -> tuple[int, bool]:
    """Open a new file; return its descriptor, and whether it is written past the page cache."""
    if _DIRECT:
        with contextlib.suppress(OSError):  # a real problem is met again below
            return os.open(path, _NEW | _DIRECT, 0o666), True
    return os.open(path, _NEW, 0o666), False
