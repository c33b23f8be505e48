"""Numbers read straight from the bytes equal what the slow way reads, and what is not certain is left to it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.serving.interface.json_numbers import read_numbers
from saman.serving.interface.json_tensors import parse_document, read_inputs
from saman.serving.interface.signatures import SignatureFacts, TensorFacts
from saman.serving.interface.status import ServingError

pytest.importorskip("simdjson")
FLOAT, DOUBLE, INT32, UINT8 = 1, 2, 3, 4


def signature(dtype: int, *shape: int) -> SignatureFacts:
    return SignatureFacts("", {"x": TensorFacts("x:0", dtype, (-1, *shape))})


def slow(body: bytes, about: SignatureFacts) -> Any:
    return read_inputs(parse_document(body), about)[0]["x"]


NUMBERS = st.integers(-(2**40), 2**40) | st.integers(0, 300) | st.floats(allow_nan=False) | st.floats(-1e3, 1e3)


@given(
    st.lists(st.lists(NUMBERS, min_size=2, max_size=2), min_size=1, max_size=4),
    st.sampled_from([FLOAT, DOUBLE, INT32, UINT8]),
    st.sampled_from(["instances", "inputs"]),
    st.sampled_from([None, 1, "\t"]),
)
def test_the_bytes_are_read_like_the_document(rows: Any, dtype: int, key: str, indent: Any) -> None:
    body, about = json.dumps({key: rows}, indent=indent).encode(), signature(dtype, 2)
    found = read_numbers(body, about)
    if found is not None:
        expected = slow(body, about)
        assert found[0]["x"].dtype == expected.dtype and found[1] is (key == "instances")
        np.testing.assert_array_equal(found[0]["x"], expected)


@given(st.text('[]{},:"abeE0123456789.-+ instances', max_size=40))
def test_no_text_is_taken_for_numbers_that_the_slow_way_does_not_read(text: str) -> None:
    body, about = b'{"instances":' + text.encode() + b"}", signature(FLOAT, 2)
    found = read_numbers(body, about)
    if found is not None:
        np.testing.assert_array_equal(found[0]["x"], slow(body, about))


@pytest.mark.parametrize("dtype", [FLOAT, DOUBLE, INT32, UINT8])
def test_an_image_takes_this_way(dtype: int) -> None:
    image = np.arange(4 * 6).reshape(1, 4, 6)
    found = read_numbers(json.dumps({"instances": image.tolist()}).encode(), signature(dtype, 4, 6))
    assert found is not None and found[0]["x"].tolist() == image.tolist()


@pytest.mark.parametrize(
    "body",
    [
        '{"instances":[[1,2],[3]]}',
        '{"instances":[[1,2],[3,4,5]]}',
        '{"instances":[[1,[2]]]}',
        '{"instances":[[1,true]]}',
        '{"instances":[["1","2"]]}',
        '{"instances":[[1,null]]}',
        '{"instances":[]}',
        '{"instances":[[1 2,3]]}',
        '{"instances":[[1,2]],"instances":[[3,4]]}',
        '{"instances":[[1,2]],"signature_name":"other"}',
        '{"inst1ances":[[1,2]]}',
        '{"instances":[[1,16777217]]}',
        '{"instances":[[1,1e39]]}',
        '{"instances":[[1,NaN]]}',
        '{"instances":[[01,2]]}',
        '{"instances":[[1,2]]}{',
        "",
        "[",
    ],
)
def test_what_is_not_certain_is_left_to_the_slow_way(body: str) -> None:
    assert read_numbers(body.encode(), signature(FLOAT, 2)) is None


def test_a_large_body_is_left_to_the_slow_way_and_mistakes_do_not_spoil_the_parser() -> None:
    about = signature(FLOAT, 2)
    assert read_numbers(b'{"instances":[[1,' + b" " * (1 << 20) + b"2]]}", about) is None
    for _ in range(3):
        assert read_numbers(b'{"instances":[[1,2.]]}', about) is None
        assert read_numbers(b'{"instances":[[1,2]]}', about) is not None
    with pytest.raises(ServingError):
        slow(b'{"instances":[[1,2.]]}', about)
