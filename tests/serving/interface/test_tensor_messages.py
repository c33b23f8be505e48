"""``TensorProto`` becomes arrays and back, however a client fills it; malformed messages are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saman.serving.interface.messages import message_class
from saman.serving.interface.status import ServingError
from saman.serving.interface.tensors import DTYPE_OF, fill_tensor, read_tensor

TensorProto = message_class("TensorProto")


@pytest.mark.parametrize("dtype", sorted({str(dtype) for dtype in DTYPE_OF.values()}))
def test_every_type_survives(dtype: str) -> None:
    values: Any = [b"a", b"", b"\xff", b"d"] if dtype == "object" else [0, 1, 1, 0]
    array = np.array(values, dtype=dtype).reshape(2, 2)
    message = TensorProto()
    fill_tensor(message, array)
    found = read_tensor(TensorProto.FromString(message.SerializeToString()))
    assert found.dtype == array.dtype and found.tolist() == array.tolist()
    if dtype != "object":
        packed = TensorProto(dtype=message.dtype, tensor_shape=message.tensor_shape, tensor_content=array.tobytes())
        assert read_tensor(packed).tolist() == array.tolist()


def tensor(shape: list[int], **values: Any) -> Any:
    message = TensorProto(dtype=1, **values)
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


def test_the_last_value_stands_for_those_that_follow() -> None:
    assert read_tensor(tensor([4], float_val=[1.0, 2.0])).tolist() == [1.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    "message",
    [
        tensor([2], tensor_content=b"123"),
        tensor([-1], float_val=[1.0]),
        tensor([1], float_val=[1.0, 2.0]),
        tensor([2]),
        tensor([1 << 40], float_val=[1.0]),
        tensor([1 << 26], float_val=[1.0]),
        tensor([1 << 62, 1 << 62], float_val=[1.0]),
        tensor([1] * 65, float_val=[1.0]),
        TensorProto(dtype=99),
        TensorProto(dtype=20),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused(message: Any) -> None:
    with pytest.raises(ServingError):
        read_tensor(message)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    from google.protobuf.message import DecodeError

    try:
        message = TensorProto.FromString(data)
        found = read_tensor(message)
    except (DecodeError, ServingError):
        return
    assert found.shape == tuple(dim.size for dim in message.tensor_shape.dim)
