"""Arrays cross a connection as they are, and bytes that are no message never become arrays."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays_of

from saman.trainers.pipeline.network.frames import MalformedFrame, empty_array, read_frame, write_frame

DTYPES = some.sampled_from(["float16", "float32", "float64", "int8", "int32", "int64", "uint8", "bool"])
ARRAYS = DTYPES.flatmap(lambda name: arrays_of.arrays(name, arrays_of.array_shapes(min_dims=0, max_dims=4, min_side=0)))


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection."""
    here, there = socket.socketpair()
    with here, there:
        for end in (here, there):
            end.settimeout(5)
        yield here, there


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(some.integers(-(2**63), 2**63 - 1), some.lists(ARRAYS, max_size=4))
def test_a_message_arrives_as_it_was_sent(
    ends: tuple[socket.socket, socket.socket], tag: int, sent: list[np.ndarray]
) -> None:
    here, there = ends
    writing = threading.Thread(target=write_frame, args=(here, tag, sent))
    writing.start()
    arrived, arrays = read_frame(there)
    writing.join()
    assert arrived == tag and len(arrays) == len(sent)
    for mine, theirs in zip(sent, arrays, strict=True):
        assert (mine.dtype, mine.shape) == (theirs.dtype, theirs.shape)
        assert mine.tobytes() == theirs.tobytes()  # NaN too


def test_an_array_that_is_not_contiguous_is_sent_by_its_values(ends: tuple[socket.socket, socket.socket]) -> None:
    values = np.arange(24.0).reshape(4, 6)[::2, ::3]
    write_frame(ends[0], 1, [values])
    [arrived] = read_frame(ends[1])[1]
    assert (arrived == values).all()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(noise=some.binary(min_size=1, max_size=200))
def test_noise_is_refused_or_waits_for_more_and_never_kills_the_reader(noise: bytes) -> None:
    here, there = socket.socketpair()
    with here, there:
        here.sendall(noise)
        here.shutdown(socket.SHUT_WR)
        try:
            _, arrays = read_frame(there)
        except (MalformedFrame, ConnectionError):
            return
        assert sum(array.nbytes for array in arrays) <= len(noise)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 5), (1, 2, 3)])
def test_memory_for_an_array_is_aligned_for_tensorflow(shape: tuple[int, ...]) -> None:
    array = empty_array(shape, np.dtype("float32"))
    assert array.shape == shape and array.dtype == np.float32
    assert array.size == 0 or array.ctypes.data % 64 == 0
