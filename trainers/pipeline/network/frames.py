"""The frames between two stages: a tag and the arrays of a message."""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

import numpy as np

_HEAD = struct.Struct("!qI")  # tag, number of arrays
_ARRAY = struct.Struct("!16sI")  # dtype, number of axes; the sizes follow as uint64
MOST_ARRAYS, MOST_AXES, MOST_BYTES = 1 << 16, 32, 1 << 40


class MalformedFrame(ValueError):  # noqa: N818  (a finding)
    """Bytes that are no message of a stage."""


def write_frame(connection: socket.socket, tag: int, arrays: Sequence[np.ndarray]) -> None:
    """Send a message to another stage.

    Raises:
        OSError: The connection is lost.
        MalformedFrame: The dtype of an array has a name that is too long.
    """
    head = [_HEAD.pack(tag, len(arrays))]
    for array in arrays:
        name = array.dtype.name.encode()
        if len(name) > 16:
            raise MalformedFrame(f"arrays of {array.dtype.name} cannot be sent")
        head.append(_ARRAY.pack(name, array.ndim))
        head.append(struct.pack(f"!{array.ndim}Q", *array.shape))
    connection.sendall(b"".join(head))
    for array in arrays:
        if array.size:
            connection.sendall(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def read_frame(connection: socket.socket) -> tuple[int, list[np.ndarray]]:
    """Wait for a message; returns its tag and its arrays.

    Raises:
        OSError: The connection is lost.
        MalformedFrame: The bytes are no message.
    """
    tag, count = _HEAD.unpack(_receive_exactly(connection, _HEAD.size))
    if count > MOST_ARRAYS:
        raise MalformedFrame(f"a message of {count} arrays")
    specs = [_read_spec(connection) for _ in range(count)]
    arrays = []
    for shape, dtype in specs:
        array = empty_array(shape, dtype)
        if array.size:
            _fill(connection, array.reshape(-1).view(np.uint8).data)
        arrays.append(array)
    return tag, arrays


def _read_spec(connection: socket.socket) -> tuple[tuple[int, ...], np.dtype]:
    name, axes = _ARRAY.unpack(_receive_exactly(connection, _ARRAY.size))
    if axes > MOST_AXES:
        raise MalformedFrame(f"an array of {axes} axes")
    shape = struct.unpack(f"!{axes}Q", _receive_exactly(connection, 8 * axes))
    try:
        dtype = np.dtype(name.rstrip(b"\0").decode("ascii"))
    except (TypeError, ValueError) as error:
        raise MalformedFrame(f"an array of dtype {name!r}") from error
    size = dtype.itemsize
    for length in shape:  # plain integers: numpy's product would overflow
        size *= length
    if dtype.hasobject or size > MOST_BYTES:
        raise MalformedFrame(f"an array of {dtype}, {size} bytes")
    return shape, dtype


def empty_array(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Return an array for a frame from the network, at a multiple of 64 bytes: TensorFlow adopts it without a copy."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    _fill(connection, memoryview(data))
    return bytes(data)


def _fill(connection: socket.socket, view: memoryview[int]) -> None:
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise ConnectionError("the neighbour closed the connection")
        view = view[count:]
