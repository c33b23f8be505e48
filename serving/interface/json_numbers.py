"""Rows of numbers straight from a request's bytes into an array, without a Python object for each number.

simdjson parses the numbers, and the brackets and commas that are left without them must be those of the signature's
shape. What is not certain is left to ``json_tensors``, which also finds and names every mistake.
"""

from __future__ import annotations

import contextlib
import importlib
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from saman.serving.interface.signatures import SignatureFacts
from saman.serving.interface.tensors import DTYPE_OF

Array = np.ndarray[Any, Any]
_LARGEST = 1 << 20  # bytes; the parser keeps several times as many
_MOST_VALUES = 1 << 18
_NUMBERS = b"0123456789.-+eE \t\r\n"
# What is left of {"instances":[ without the letters and characters of numbers.
_KEYS = {b'{"instancs":[': ("instances", True), b'{"inputs":[': ("inputs", False)}


def _make_parser() -> Any:
    """A parser; ``None`` without simdjson."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("simdjson").Parser(max_capacity=_LARGEST)
    return None


_parser = _make_parser()


def read_numbers(body: bytes, signature: SignatureFacts) -> tuple[dict[str, Array], bool] | None:
    """The inputs of a request with ``instances`` or ``inputs`` alone, and whether they are rows.

    Returns:
        ``None`` for a body that is not certainly an array of numbers that fits a signature with a single input.
    """
    if _parser is None or len(signature.inputs) != 1 or len(body) > _LARGEST:
        return None
    [(name, facts)] = signature.inputs.items()
    dtype = DTYPE_OF.get(facts.dtype)
    if dtype is None or dtype.kind not in "fiu" or not facts.shape or facts.shape[0] != -1:
        return None
    row = _row(facts.shape[1:])
    left = body.translate(None, _NUMBERS)
    at = left.find(b"[") + 1
    found = _KEYS.get(left[:at])
    if row is None or found is None:
        return None
    count = (len(left) - at - 1) // (len(row) + 1)
    if left[at:] != b",".join([row] * count) + b"]}":
        return None
    values = _values(body, found[0], dtype)
    if values is None or len(values) != count * prod(facts.shape[1:]):
        return None
    return {name: values.reshape(count, *facts.shape[1:])}, found[1]


@lru_cache(maxsize=256)
def _row(shape: tuple[int, ...]) -> bytes | None:
    """The brackets and commas of a row; ``None`` where its size is not known, or is 0."""
    if any(size < 1 for size in shape) or prod(shape) > _MOST_VALUES:
        return None
    row = b""
    for size in reversed(shape):
        row = b"[" + b",".join([row] * size) + b"]"
    return row


def _values(body: bytes, key: str, dtype: np.dtype[Any]) -> Array | None:
    """The numbers below ``key``; ``None`` where there are others, or where a number does not fit its type."""
    try:
        buffer = _parser.parse(body)[key].as_buffer(of_type="d" if dtype.kind == "f" else "i")
    except (ValueError, TypeError, KeyError, RuntimeError):
        return None
    found = np.frombuffer(buffer, np.float64 if dtype.kind == "f" else np.int64)
    if not found.size:
        return None
    if dtype.kind == "f":
        largest = 2.0 ** (np.finfo(dtype).nmant + 1) - 1  # beyond, an integer may lose precision
        return found.astype(dtype) if -largest <= found.min() and found.max() <= largest else None
    bounds = np.iinfo(dtype)
    return found.astype(dtype) if bounds.min <= int(found.min()) and int(found.max()) <= bounds.max else None
