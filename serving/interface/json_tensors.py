"""JSON of the REST interface to arrays and back, with the messages of TensorFlow Serving's ``util/json_tensor.cc``.

Numbers take a fast way through NumPy. What it cannot decide takes the slow way, element by element, which finds the
first mistake and names it as TensorFlow Serving does.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from saman.serving.interface.signatures import SignatureFacts, TensorFacts
from saman.serving.interface.status import StatusCode, invalid
from saman.serving.interface.tensors import DTYPE_OF

Array = np.ndarray[Any, Any]
_DEEPEST = 64  # nested lists; NumPy's limit too
_SHOWN = 200  # characters of a value in a message
_TYPE_NAMES = {"f": "float", "i": "int", "u": "uint", "b": "bool"}


def parse_document(body: bytes) -> dict[str, Any]:
    """Parse a request's JSON body; raises ``ServingError`` unless it is an object."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        document = _parse_with_nan(body, error)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {_shown(document)} Is not object")
    return document


def _parse_with_nan(body: bytes, error: orjson.JSONDecodeError) -> Any:
    """Parse what only JSON with NaN and Infinity allows, as TensorFlow Serving does; else raise ``error``."""
    if b"NaN" in body or b"Inf" in body:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    raise invalid(f"JSON Parse error: {error.msg[:_SHOWN]} at offset: {error.pos}")


def signature_name(document: Mapping[str, Any]) -> str:
    """The requested signature; empty for the default."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        problem = "not formatted correctly. 'signature_name' key must be a string value."
        raise invalid(f"JSON Value: {_shown(document)} {problem}")
    return name


def read_inputs(
    document: Mapping[str, Any], signature: SignatureFacts, body: bytes = b"true"
) -> tuple[dict[str, Array], bool]:
    """The inputs of a predict request, by name, and whether they are rows (``instances``).

    ``body`` is the text of ``document``: where it holds no truth value, numbers take the fast way (NumPy takes ``true``
    for 1).
    """
    is_fast = b"true" not in body and b"false" not in body
    if "instances" in document:
        rows = document["instances"]
        if "inputs" in document:
            problem = "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist "
            raise invalid(f"JSON Value: {_shown(document)} {problem}")
        if not isinstance(rows, list):
            raise invalid(f"JSON Value: {_shown(document)} Excepting 'instances' to be an list/array")
        if not rows:
            raise invalid(f"JSON Value: {_shown(document)} No values in 'instances' array")
        return _read_rows(rows, signature.inputs, is_fast), True
    if "inputs" not in document:
        raise invalid("Missing 'inputs' or 'instances' key")
    return _read_columns(document["inputs"], signature.inputs, is_fast), False


def _read_rows(rows: list[Any], wanted: Mapping[str, TensorFacts], is_fast: bool) -> dict[str, Array]:
    if not _is_object(rows[0]):
        if len(wanted) > 1:
            raise invalid(
                "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
                "tensorinfo_map"
            )
        for item, row in enumerate(rows):
            if _is_object(row):
                raise invalid(f"Expecting value/list but got object at item {item} of input list")
        [(name, facts)] = wanted.items()
        return {name: _tensor(rows, facts, is_fast, is_rows=True)}
    for item, row in enumerate(rows):
        if not _is_object(row):
            raise invalid(f"Expecting object but got list at item {item} of input list")
        if extra := [key for key in row if key not in wanted]:
            problem = f"JSON object: does not have named input: {extra[0]}"
            raise invalid(
                f"Failed to process element: {item} key: {extra[0]} of 'instances' list. "
                f"Error: INVALID_ARGUMENT: {problem}"
            )
        if len(row) != len(wanted):
            raise invalid(
                f"Failed to process element: {item} of 'instances' list. JSON object: {_shown(row)} keys must be "
                f"equal to: {','.join(sorted(wanted))}"
            )
    return {
        name: _tensor([row[name] for row in rows], facts, is_fast, is_rows=True, key=name)
        for name, facts in wanted.items()
    }


def _read_columns(value: Any, wanted: Mapping[str, TensorFacts], is_fast: bool) -> dict[str, Array]:
    if not _is_object(value):
        if len(wanted) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        [(name, facts)] = wanted.items()
        return {name: _tensor(value, facts, is_fast)}
    for name in wanted:
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    # TensorFlow Serving (FillTensorMapFromInputsMap) does not look at further names here; in rows it refuses them.
    return {name: _tensor(value[name], facts, is_fast) for name, facts in wanted.items()}


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not _is_base64(value)


def _tensor(value: Any, facts: TensorFacts, is_fast: bool, *, is_rows: bool = False, key: str = "") -> Array:
    """A tensor of the input's type; raises ``ServingError`` that names the first mistake."""
    dtype = DTYPE_OF.get(facts.dtype)
    if dtype is None or dtype.kind == "c":
        problem = f"Conversion of JSON Value: {_shown(value)} to type: {facts.dtype}"
        raise invalid(problem)
    if is_fast and dtype.kind in "fiu" and (array := _fast(value, dtype)) is not None:
        return array
    if is_rows:
        return _slow_rows(value, dtype, key)
    shape = _shape(value)
    words: list[Any] = []
    _collect(value, 0, shape, dtype, words)
    return _array(words, shape, dtype)


def _fast(value: Any, dtype: np.dtype[Any]) -> Array | None:
    """The array of a value that holds numbers only; ``None`` where the slow way must look."""
    try:
        found = np.array(value)
    except (ValueError, TypeError, OverflowError):
        return None
    if dtype.kind == "f" and found.dtype.kind in "iuf":
        return found.astype(dtype, copy=False) if not found.size or _fits_float(found, dtype) else None
    if dtype.kind in "iu" and found.dtype.kind in "iu":
        bounds = np.iinfo(dtype)
        fits = not found.size or (int(found.min()) >= bounds.min and int(found.max()) <= bounds.max)
        return found.astype(dtype, copy=False) if fits else None
    return None


def _fits_float(found: Array, dtype: np.dtype[Any]) -> bool:
    largest = max(abs(found.max().item()), abs(found.min().item()))
    return not _float_limit(dtype, found.dtype.kind != "f") < largest < float("inf")


def _float_limit(dtype: np.dtype[Any], is_integer: bool) -> float:
    """The largest number that the type holds: of integers without loss. An infinity was written as such."""
    return (1 << (np.finfo(dtype).nmant + 1)) - 1 if is_integer else float(np.finfo(dtype).max)


def _slow_rows(rows: list[Any], dtype: np.dtype[Any], key: str) -> Array:
    """Rows one after the other: each must have the shape of the first."""
    words: list[Any] = []
    first: tuple[int, ...] | None = None
    for item, row in enumerate(rows):
        place = f"Failed to process element: {item}{f' key: {key}' if key else ''} of 'instances' list. Error: "
        try:
            shape = _shape(row)
            before = len(words)
            _collect(row, 0, shape, dtype, words)
            if first is not None and np.prod(first) != len(words) - before:
                raise invalid(f"Expecting tensor size: {int(np.prod(first))} but got: {len(words) - before}")
            if first is not None and first != shape:
                raise invalid(f"Expecting shape {_shape_text(first)} but got: {_shape_text(shape)}")
        except Exception as error:
            code = getattr(error, "code", StatusCode.INVALID_ARGUMENT)
            raise invalid(f"{place}{StatusCode(code).name}: {getattr(error, 'message', error)}") from None
        first = shape
    return _array(words, (len(rows), *(first or ())), dtype)


def _shape_text(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"


def _shape(value: Any) -> tuple[int, ...]:
    sizes: list[int] = []
    while isinstance(value, list):
        sizes.append(len(value))
        if len(sizes) > _DEEPEST:
            raise invalid(f"Lists are nested deeper than {_DEEPEST} levels")
        if not value:
            break
        value = value[0]
    return tuple(sizes)


def _collect(value: Any, level: int, shape: tuple[int, ...], dtype: np.dtype[Any], words: list[Any]) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {_shown(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        words.append(_element(value, dtype))
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _collect(item, level + 1, shape, dtype, words)


def _element(value: Any, dtype: np.dtype[Any]) -> Any:
    if dtype.hasobject:
        if isinstance(value, str):
            return value.encode("utf-8", errors="surrogatepass")
        if isinstance(value, dict):
            return decode_base64(value)
        raise _type_error(value, "string")
    name = "bool" if dtype.kind == "b" else f"{_TYPE_NAMES[dtype.kind]}{dtype.itemsize * 8}"
    name = {"float32": "float", "float64": "double"}.get(name, name)
    if dtype.kind == "b":
        if isinstance(value, bool):
            return value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        if dtype.kind == "f":
            return _decimal(value, dtype, name)
        bounds = np.iinfo(dtype)
        if isinstance(value, int) and bounds.min <= value <= bounds.max:
            return value
    raise _type_error(value, name)


def _decimal(value: float, dtype: np.dtype[Any], name: str) -> float:
    if _float_limit(dtype, isinstance(value, int)) < abs(value) < float("inf"):
        raise invalid(f"Cannot convert JSON value: {_shown(value)} to {name} without loss of precision.")
    return value


def _type_error(value: Any, name: str) -> Exception:
    return invalid(f"JSON Value: {_shown(value)} Type: {_kind(value)} is not of expected type: {name}")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return str(value)
    names = {dict: "Object", list: "Array", str: "String", int: "Number", float: "Number"}
    return names.get(type(value), "Null")


def _array(words: list[Any], shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if dtype.hasobject:
        array = np.empty(len(words), dtype=object)
        array[:] = words
        return array.reshape(shape)
    return np.array(words, dtype=dtype).reshape(shape)


def decode_base64(value: Any) -> bytes:
    """The bytes of ``{"b64": …}``; raises ``ServingError``."""
    if not _is_base64(value):
        raise invalid(f"JSON Value: {_shown(value)} not formatted correctly for base64 data")
    text = value["b64"]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _shown(value: Any) -> str:
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError, RecursionError):
        text = str(type(value).__name__)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# ---- answers -----------------------------------------------------------------------------------------------------


def render_predictions(outputs: Mapping[str, Array], is_rows: bool) -> bytes:
    """The body of a predict answer; raises ``ServingError`` where outputs differ in their first size as rows."""
    if not is_rows:
        values = {name: _plain(name, array) for name, array in outputs.items()}
        return _dumps({"outputs": values if len(values) > 1 else next(iter(values.values()))}, outputs)
    size = None
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid(f"Tensor name: {name} has no shape information ")
        if size is not None and array.shape[0] != size:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {array.shape[0]} expecting: {size}")
        size = array.shape[0]
    if len(outputs) == 1:
        [(name, array)] = outputs.items()
        return _dumps({"predictions": _plain(name, array)}, outputs)
    columns = {name: _plain(name, array) for name, array in outputs.items()}
    rows = [{name: column[at] for name, column in columns.items()} for at in range(size or 0)]
    return _dumps({"predictions": rows}, outputs)


def _plain(name: str, array: Array) -> Any:
    if array.dtype == object:
        as_bytes = name.endswith("_bytes")
        return _strings(array.tolist(), as_bytes)
    if array.dtype == np.float16:
        array = array.astype(np.float32)
    if array.dtype.kind == "c":
        raise invalid(f"Failed to write JSON value for tensor type: {array.dtype.name}")
    return np.ascontiguousarray(array) if array.ndim else array.item()


def _strings(value: Any, as_bytes: bool) -> Any:
    if isinstance(value, list):
        return [_strings(item, as_bytes) for item in value]
    word = value.encode() if isinstance(value, str) else bytes(value)
    return {"b64": base64.b64encode(word).decode()} if as_bytes else word.decode(errors="replace")


def _dumps(value: Any, outputs: Mapping[str, Array]) -> bytes:
    if all(array.dtype.kind != "f" or np.isfinite(array).all() for array in outputs.values()):
        return bytes(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
    # TensorFlow Serving writes NaN and Infinity, which JSON does not have.
    return json.dumps(value, default=lambda array: array.tolist()).encode()


def render_error(message: str) -> bytes:
    """The JSON body of an error."""
    return bytes(orjson.dumps({"error": message}, option=orjson.OPT_INDENT_2))
