"""Frames between a front and an engine, over a Unix socket that only this user can open.

::

    length u32 | number u64 | deadline f64 | code u8 | text length u16 | text | arrays
    arrays:  count u16, then each: name length u16 | name | dtype u8 | rank u8 | sizes u64… | bytes u64 | content

In a request, ``number`` identifies the request, ``deadline`` is in seconds of ``time.monotonic`` (0: none), and
``text`` names the signature. In a reply, ``code`` is a gRPC status and ``text`` the message of an error. An array of
strings holds, for each element, a length (u32) and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
_HEAD = struct.Struct("<IQdBH")
_COUNT = struct.Struct("<H")
_SIZE = struct.Struct("<Q")
_LENGTH = struct.Struct("<I")
LARGEST = (1 << 32) - 1  # bytes of a frame
_STRINGS = 255

# Codes of gRPC (grpc/status.h) that engines use.
OK, INVALID_ARGUMENT, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 0, 3, 4, 12, 13, 14

_DTYPES = (
    "float32", "float64", "int32", "uint8", "int16", "int8", "int64", "bool", "uint16", "float16", "uint32", "uint64",
    "complex64", "complex128",
)  # fmt: skip
_CODES = {np.dtype(name): code for code, name in enumerate(_DTYPES)}
_TYPES = dict(enumerate(np.dtype(name) for name in _DTYPES))


class Frame(NamedTuple):  # made for every request and reply: a frozen dataclass takes five times as long
    """A request or a reply."""

    number: int
    text: str
    arrays: Mapping[str, Array]
    code: int = OK
    deadline: float = 0.0


class BrokenFrame(Exception):  # noqa: N818
    """The other side does not keep to the format; the connection is of no further use."""


def encode(frame: Frame) -> bytes:
    """The frame's bytes; raises ``BrokenFrame`` for a frame beyond ``LARGEST``."""
    text = frame.text.encode()[:65_535]
    parts = [b"", text, _COUNT.pack(len(frame.arrays))]
    for name, array in frame.arrays.items():
        parts += _encode_array(name.encode(), array)
    length = sum(map(len, parts)) + _HEAD.size
    if length > LARGEST:
        raise BrokenFrame(f"a frame of {length} bytes is too large")
    parts[0] = _HEAD.pack(length, frame.number, frame.deadline, frame.code, len(text))
    return b"".join(parts)


def _encode_array(name: bytes, array: Array) -> list[bytes]:
    if array.dtype == object:
        code, content = _STRINGS, b"".join(_LENGTH.pack(len(word)) + word for word in array.ravel().tolist())
    else:
        code, content = _CODES[array.dtype], array.tobytes()
    sizes = struct.pack(f"<BB{array.ndim}Q", code, array.ndim, *array.shape)
    return [_COUNT.pack(len(name)), name, sizes, _SIZE.pack(len(content)), content]


def decode(body: bytes) -> Frame:
    """Read a frame from its bytes, the length included; raises ``BrokenFrame``."""
    try:
        _, number, deadline, code, size = _HEAD.unpack_from(body)
        at = _HEAD.size + size
        text = body[_HEAD.size : at].decode()
        (count,) = _COUNT.unpack_from(body, at)
        at += _COUNT.size
        arrays = {}
        for _ in range(count):
            name, array, at = _decode_array(body, at)
            arrays[name] = array
    except (struct.error, ValueError, KeyError) as error:
        raise BrokenFrame(str(error)) from error
    return Frame(number, text, arrays, code, deadline)


def _decode_array(body: bytes, at: int) -> tuple[str, Array, int]:
    (size,) = _COUNT.unpack_from(body, at)
    at += _COUNT.size
    name = body[at : at + size].decode()
    code, rank = struct.unpack_from("<BB", body, at + size)
    at += size + 2
    shape = struct.unpack_from(f"<{rank}Q", body, at)
    at += 8 * rank
    (length,) = _SIZE.unpack_from(body, at)
    at += _SIZE.size
    content = body[at : at + length]
    if len(content) != length:
        raise BrokenFrame("an array is cut off")
    if code == _STRINGS:
        return name, _strings(content, shape), at + length
    dtype = _TYPES[code]
    return name, np.frombuffer(content, dtype).reshape(shape), at + length


def _strings(content: bytes, shape: tuple[int, ...]) -> Array:
    words, at = [], 0
    while at < len(content):
        (length,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size
        words.append(content[at : at + length])
        at += length
    array = np.empty(len(words), dtype=object)
    array[:] = words
    return array.reshape(shape)


class FrameReader:
    """Cuts a stream of bytes into frames."""

    def __init__(self, largest: int = LARGEST) -> None:
        self._buffer, self._largest = bytearray(), largest

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that ``data`` completes; raises ``BrokenFrame``."""
        buffer = self._buffer
        buffer += data
        at = 0
        while len(buffer) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(buffer, at)
            if not _HEAD.size <= length <= self._largest:
                raise BrokenFrame(f"a frame of {length} bytes")
            if len(buffer) - at < length:
                break
            with memoryview(buffer) as view:
                body = bytes(view[at : at + length])
            yield decode(body)
            at += length
        del buffer[:at]
