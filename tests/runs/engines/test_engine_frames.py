"""Frames carry every array unchanged, in pieces of any size; joined requests are answered as alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.runs.engines.batches import batch_key, join, split
from saman.runs.engines.frames import BrokenFrame, Frame, FrameReader, decode, encode

ARRAYS = {
    "floats": np.arange(6, dtype="float32").reshape(2, 3),
    "scalar": np.array(7, dtype="int64"),
    "none": np.zeros((0, 4), dtype="uint8"),
    "truth": np.array([True, False]),
    "words": np.array([b"", b"a\0b", "ä".encode()], dtype=object),
}


def same(one: object, other: object) -> bool:
    return bool(np.array_equal(one, other)) and one.dtype == other.dtype  # type: ignore[attr-defined]


@given(sizes=st.lists(st.integers(1, 40), max_size=200))
def test_frames_survive_any_division_of_the_stream(sizes: list[int]) -> None:
    sent = [Frame(1, "serving_default", ARRAYS, deadline=2.5), Frame(2, "ä", {}, code=3)]
    stream = b"".join(encode(frame) for frame in sent)
    reader, at, found = FrameReader(), 0, []
    for size in [*sizes, len(stream)]:
        found += list(reader.feed(stream[at : at + size]))
        at += size
    assert [(frame.number, frame.text, frame.code, frame.deadline) for frame in found] == [
        (1, "serving_default", 0, 2.5), (2, "ä", 3, 0.0)
    ]  # fmt: skip
    assert all(same(found[0].arrays[name], array) for name, array in ARRAYS.items())


@given(st.binary(max_size=300))
def test_garbage_is_refused_and_never_crashes(data: bytes) -> None:
    reader = FrameReader(largest=1 << 20)
    try:
        list(reader.feed(data))
    except BrokenFrame:
        return


@given(st.data())
def test_a_damaged_frame_is_refused_or_read(data: st.DataObject) -> None:
    body = bytearray(encode(Frame(1, "a", ARRAYS)))
    body[data.draw(st.integers(4, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        decode(bytes(body))
    except BrokenFrame:
        return


def test_only_requests_of_the_same_form_are_joined() -> None:
    row = {"x": np.zeros((2, 3), "float32")}
    assert batch_key("a", row) == batch_key("a", {"x": np.ones((5, 3), "float32")})
    others = [
        {"x": np.zeros((2, 4), "float32")},
        {"x": np.zeros((2, 3), "float64")},
        {"y": np.zeros((2, 3), "float32")},
    ]
    assert batch_key("a", row) not in [batch_key("b", row), *(batch_key("a", other) for other in others)]
    assert batch_key("a", {"x": np.zeros(())}) is None
    assert batch_key("a", {"x": np.zeros((2, 1)), "y": np.zeros((3, 1))}) is None


def test_a_batch_is_cut_into_its_requests() -> None:
    requests = [{"x": np.full((rows, 2), rows)} for rows in (1, 3, 2)]
    joined = join(requests)
    answers = split({"y": joined["x"] * 10}, [1, 3, 2])
    assert answers is not None
    assert [answer["y"].tolist() for answer in answers] == [(request["x"] * 10).tolist() for request in requests]
    assert split({"y": np.zeros(())}, [1, 3]) is None


def test_a_frame_beyond_the_limit_is_refused() -> None:
    with pytest.raises(BrokenFrame):
        list(FrameReader(largest=100).feed(encode(Frame(1, "a", {"x": np.zeros(100)}))))
