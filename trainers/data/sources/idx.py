"""The IDX format of MNIST and similar sets: a big-endian header, then the values; plain or gzipped."""

from __future__ import annotations

import gzip
import hashlib
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saman.configs.errors import UserError

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


@dataclass(frozen=True)
class IdxFile:
    """The values of an IDX file, and the digests of the file on disk."""

    values: np.ndarray
    sha256: str
    md5: str


def read(path: Path) -> IdxFile:
    """Read a file and check it: gzip's checksum, the header, the length.

    Raises:
        UserError: The file is damaged or cannot be read.
    """
    try:
        raw = path.read_bytes()
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"damaged gzip file: {error}", where=str(path), remedy="download it again") from error
    except OSError as error:
        raise UserError(f"cannot be read: {error.strerror}", where=str(path)) from error
    md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
    return IdxFile(_values(data, path), hashlib.sha256(raw).hexdigest(), md5)


def _values(data: bytes, path: Path) -> np.ndarray:
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise UserError(f"no IDX file: it begins with {data[:4].hex() or 'nothing'}", where=str(path))
    axes, kind = data[3], np.dtype(_TYPES[data[2]])
    start = 4 + 4 * axes
    shape = tuple(int(size) for size in np.frombuffer(data[4:start], ">i4"))
    expected = start + math.prod(shape) * kind.itemsize
    if len(shape) != axes or len(data) != expected:
        problem = f"the header says {shape}, which needs {expected} bytes, but there are {len(data)}"
        raise UserError(problem, where=str(path), remedy="the file is damaged; download it again")
    return np.frombuffer(data, kind, offset=start).reshape(shape).astype(kind.newbyteorder("="))
