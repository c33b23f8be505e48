"""``TensorProto`` to NumPy arrays and back. Strings are arrays of ``bytes`` objects."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from saman.registry.lifecycle.warmup import DTYPES
from saman.serving.interface.status import invalid

Array = np.ndarray[Any, Any]
STRING, _HALF, _BFLOAT16 = 7, 19, 14
# DataType -> its name in messages; types.proto
NAMES = {
    1: "DT_FLOAT", 2: "DT_DOUBLE", 3: "DT_INT32", 4: "DT_UINT8", 5: "DT_INT16", 6: "DT_INT8", 7: "DT_STRING",
    8: "DT_COMPLEX64", 9: "DT_INT64", 10: "DT_BOOL", 14: "DT_BFLOAT16", 17: "DT_UINT16", 18: "DT_COMPLEX128",
    19: "DT_HALF", 20: "DT_RESOURCE", 21: "DT_VARIANT", 22: "DT_UINT32", 23: "DT_UINT64",
}  # fmt: skip
DTYPE_OF: Mapping[int, np.dtype[Any]] = {
    **{number: np.dtype(name) for name, number in DTYPES.items()},
    STRING: np.dtype(object), 8: np.dtype("complex64"), 18: np.dtype("complex128"),
}  # fmt: skip
_NUMBER_OF = {dtype: number for number, dtype in DTYPE_OF.items()}
_FIELDS = {
    1: "float_val", 2: "double_val", 3: "int_val", 4: "int_val", 5: "int_val", 6: "int_val", 7: "string_val",
    8: "scomplex_val", 9: "int64_val", 10: "bool_val", 17: "int_val", 18: "dcomplex_val", 19: "half_val",
    22: "uint32_val", 23: "uint64_val",
}  # fmt: skip
_MOST_ELEMENTS = 1 << 30
_MOST_DIMENSIONS = 64  # NumPy's limit


def read_tensor(tensor: Any) -> Array:
    """Read a tensor; raises ``ServingError`` for a tensor whose content does not fit its type and shape."""
    dtype = DTYPE_OF.get(tensor.dtype)
    if dtype is None:
        raise invalid(f"Tensors of type {NAMES.get(tensor.dtype, tensor.dtype)} are not supported")
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    if any(size < 0 for size in shape) or tensor.tensor_shape.unknown_rank or len(shape) > _MOST_DIMENSIONS:
        raise invalid(f"The shape of a tensor is not known: {_shown(shape)}")
    count = prod(shape)
    if count > _MOST_ELEMENTS:
        raise invalid(f"A tensor of shape {_shown(shape)} is too large")
    if tensor.tensor_content:
        return _from_content(tensor.tensor_content, dtype, shape, count)
    return _from_values(tensor, dtype, shape, count)


def _shown(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape[:16])) + "]"


def _from_content(content: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], count: int) -> Array:
    if dtype.hasobject:
        raise invalid("A tensor of strings must use string_val")
    if len(content) != count * dtype.itemsize:
        raise invalid(f"A tensor of shape {_shown(shape)} needs {count * dtype.itemsize} bytes, not {len(content)}")
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(shape)


def _from_values(tensor: Any, dtype: np.dtype[Any], shape: tuple[int, ...], count: int) -> Array:
    values = getattr(tensor, _FIELDS[tensor.dtype])
    if tensor.dtype == STRING:
        array = np.empty(len(values), dtype=object)
        array[:] = list(values)
    elif tensor.dtype == _HALF:
        array = np.array(values, dtype=np.int64).astype(np.uint16).view(np.float16)
    elif dtype.kind == "c":
        parts = np.array(values, dtype=f"f{dtype.itemsize // 2}")
        array = parts[: len(parts) // 2 * 2].view(dtype)
    else:
        array = np.array(values, dtype=np.int64 if dtype.kind in "iu" and dtype.itemsize < 8 else dtype)
        array = array.astype(dtype, copy=False)
    if len(array) == count:
        return array.reshape(shape)
    if not 0 < len(array) < count:
        raise invalid(f"A tensor of shape {_shown(shape)} needs {count} values, not {len(array)}")
    # The last value stands for all that follow (tensor.proto); a small message must not become a large array.
    if count > 1 << 24:
        raise invalid(f"A tensor of shape {_shown(shape)} must list its values")
    return np.concatenate([array, np.repeat(array[-1:], count - len(array))]).reshape(shape)


def fill_tensor(tensor: Any, array: Array) -> None:
    """Write an array into a ``TensorProto``, in the field of its type as TensorFlow Serving does."""
    number = _NUMBER_OF[array.dtype]
    tensor.dtype = number
    tensor.tensor_shape.SetInParent()
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    flat = np.ascontiguousarray(array).ravel()
    if number == _HALF:
        flat = flat.view(np.uint16)
    elif array.dtype.kind == "c":
        flat = flat.view(f"f{array.dtype.itemsize // 2}")
    values = [_bytes(word) for word in flat.tolist()] if number == STRING else flat.tolist()
    getattr(tensor, _FIELDS[number]).extend(values)


def _bytes(word: Any) -> bytes:
    return word.encode() if isinstance(word, str) else bytes(word)
