"""JSON becomes the arrays that TensorFlow Serving would make of it, by the fast way and by the slow way alike."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.serving.interface import examples
from saman.serving.interface.json_tensors import parse_document, read_inputs, render_predictions
from saman.serving.interface.signatures import SignatureFacts, TensorFacts
from saman.serving.interface.status import ServingError, StatusCode

FLOAT, INT32, UINT8, STRING, BOOL = 1, 3, 4, 7, 10


def signature(**inputs: int) -> SignatureFacts:
    return SignatureFacts("", {name: TensorFacts(f"{name}:0", dtype, None) for name, dtype in inputs.items()})


def read(document: Any, about: SignatureFacts) -> dict[str, Any]:
    body = json.dumps(document).encode()
    return read_inputs(parse_document(body), about, body)[0]


@given(st.lists(st.lists(st.integers(0, 255), min_size=3, max_size=3), min_size=1, max_size=5))
def test_the_fast_and_the_slow_way_agree(rows: list[list[int]]) -> None:
    for dtype in (FLOAT, INT32, UINT8):
        document = {"instances": rows}
        [fast] = read_inputs(document, signature(x=dtype), b"")[0].values()
        [slow] = read_inputs(document, signature(x=dtype), b"true")[0].values()
        assert fast.dtype == slow.dtype and fast.tolist() == slow.tolist() == rows


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        ([1, True], FLOAT, "JSON Value: true Type: True is not of expected type: float"),
        ([None], FLOAT, "JSON Value: null Type: Null is not of expected type: float"),
        (["1"], FLOAT, 'JSON Value: "1" Type: String is not of expected type: float'),
        ([1.5], INT32, "JSON Value: 1.5 Type: Number is not of expected type: int32"),
        ([2**31], INT32, "is not of expected type: int32"),
        ([256], UINT8, "is not of expected type: uint8"),
        ([2**24], FLOAT, "Cannot convert JSON value: 16777216 to float without loss of precision."),
        ([1e39], FLOAT, "without loss of precision."),
        ([1], STRING, "JSON Value: 1 Type: Number is not of expected type: string"),
        ([1], BOOL, "JSON Value: 1 Type: Number is not of expected type: bool"),
        ([{"b64": "%"}], STRING, "Unable to base64 decode"),
        ([[1], [2, 3]], FLOAT, "Expecting tensor size: 1 but got: 2"),
        ([1, [2]], FLOAT, "Expecting"),
    ],
)
def test_what_does_not_fit_is_named(value: Any, dtype: int, message: str) -> None:
    with pytest.raises(ServingError, match=".") as refusal:
        read({"instances": value}, signature(x=dtype))
    assert message in refusal.value.message


def test_strings_bytes_and_truth_values() -> None:
    [words] = read({"instances": ["a", {"b64": "/wA="}]}, signature(x=STRING)).values()
    assert words.tolist() == [b"a", b"\xff\0"]
    [truth] = read({"inputs": [[True, False]]}, signature(x=BOOL)).values()
    assert truth.tolist() == [[True, False]]
    [scalar] = read({"inputs": 3}, signature(x=FLOAT)).values()
    assert scalar.shape == ()


def test_not_a_number_and_infinity_are_read_and_written() -> None:
    body = b'{"instances": [[NaN, Infinity, -Infinity]]}'
    [values] = read_inputs(parse_document(body), signature(x=FLOAT), body)[0].values()
    assert math.isnan(values[0, 0]) and values[0, 1:].tolist() == [math.inf, -math.inf]
    assert b"NaN" in render_predictions({"y": values}, is_rows=True)


def test_several_inputs_are_named() -> None:
    about = signature(a=FLOAT, b=INT32)
    found = read({"instances": [{"a": 1.5, "b": 2}, {"a": 2.5, "b": 3}]}, about)
    assert (found["a"].tolist(), found["b"].tolist()) == ([1.5, 2.5], [2, 3])
    assert read({"inputs": {"a": [1.5], "b": [2]}}, about)["b"].tolist() == [2]
    for document in ({"instances": [1]}, {"inputs": [1]}, {"instances": [{"a": 1}]}, {"inputs": {"a": [1]}}):
        with pytest.raises(ServingError):
            read(document, about)


def test_an_extra_input_is_refused_in_rows_and_ignored_in_columns_as_tensorflow_serving_does() -> None:
    about = signature(a=FLOAT)
    with pytest.raises(ServingError, match="key: other of 'instances' list") as refusal:
        read({"instances": [{"a": 1.5, "other": 2}]}, about)
    assert refusal.value.code is StatusCode.INVALID_ARGUMENT
    assert read({"inputs": {"a": [1.5], "other": 2}}, about).keys() == {"a"}


def test_outputs_become_rows_or_columns() -> None:
    outputs = {"p": np.array([[0.25], [0.5]], "float32"), "label_bytes": np.array([b"a", b"b"], dtype=object)}
    rows = json.loads(render_predictions(outputs, is_rows=True))
    assert rows == {"predictions": [{"p": [0.25], "label_bytes": {"b64": "YQ=="}},
                                    {"p": [0.5], "label_bytes": {"b64": "Yg=="}}]}  # fmt: skip
    assert json.loads(render_predictions({"p": outputs["p"]}, is_rows=False)) == {"outputs": [[0.25], [0.5]]}
    with pytest.raises(ServingError, match="inconsistent batch size"):
        render_predictions({"a": np.zeros(2), "b": np.zeros(3)}, is_rows=True)


def test_deep_nesting_is_refused() -> None:
    nested: Any = 1
    for _ in range(100):
        nested = [nested]
    with pytest.raises(ServingError, match="nested deeper"):
        read({"instances": nested}, signature(x=FLOAT))


def test_examples_are_those_of_tensorflow() -> None:
    [found] = examples.read_examples(
        {"context": {"c": "x"}, "examples": [{"a": [1.0, 2.5], "n": 7, "b": {"b64": "eA=="}}]}
    )
    assert b"\x01c" in found and b"\x01a" in found and np.float32(2.5).tobytes() in found
    for bad in ({"a": [1, 2.5]}, {"a": None}, {"a": [[1]]}, {"a": 2**64}):
        with pytest.raises(ServingError):
            examples.read_examples({"examples": [bad]})
