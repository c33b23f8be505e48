"""A frame that is no message is refused before anything is allocated for it."""

from __future__ import annotations

import socket
import struct

import pytest

from saman.trainers.pipeline.network.frames import MalformedFrame, read_frame


@pytest.mark.parametrize(
    ("count", "dtype", "shape"),
    [
        (1 << 31, b"float32", (1,)),
        (1, b"float32", (1,) * 33),
        (1, b"float32", (1 << 62, 1 << 62)),
        (1, b"float32", (1 << 41,)),
        (1, b"object", (1,)),
        (1, b"no such dtype", (1,)),
    ],
    ids=["arrays", "axes", "overflow", "size", "objects", "dtype"],
)
def test_a_frame_beyond_any_message_is_refused(count: int, dtype: bytes, shape: tuple[int, ...]) -> None:
    here, there = socket.socketpair()
    with here, there:
        head = struct.pack("!qI", 0, count) + struct.pack("!16sI", dtype, len(shape))
        there.sendall(head + struct.pack(f"!{len(shape)}Q", *shape) + bytes(64))
        here.settimeout(5)
        with pytest.raises(MalformedFrame):
            read_frame(here)
