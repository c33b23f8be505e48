"""Classification and regression: ``tf.Example`` from JSON, and answers from the outputs of a signature.

Sources: TensorFlow Serving's ``util/json_tensor.cc``, ``servables/tensorflow/{classifier,regressor}.cc``.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from saman.registry.store import protobuf
from saman.serving.interface.json_tensors import decode_base64
from saman.serving.interface.signatures import CLASSIFY, REGRESS, SignatureFacts
from saman.serving.interface.status import ServingError, StatusCode, invalid

Array = np.ndarray[Any, Any]
_INT64 = range(-(1 << 63), 1 << 63)


def read_examples(document: Mapping[str, Any]) -> list[bytes]:
    """The serialised examples of a classify or regress request, each with the request's context."""
    context = _example(document["context"]) if "context" in document else b""
    if "examples" not in document:
        raise invalid("When method is classify, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid("Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid("'examples' value is an empty array")
    return [context + _example(example) for example in examples]  # joined messages are merged


def _example(value: Any) -> bytes:
    if not isinstance(value, dict):
        raise invalid("Example must be JSON object but got JSON " + type(value).__name__)
    entries = (
        protobuf.text(1, name)
        + protobuf.message(2, _feature(name, content if isinstance(content, list) else [content]))
        for name, content in value.items()
    )
    return protobuf.message(1, b"".join(protobuf.message(1, entry) for entry in entries))


def _feature(name: str, values: Sequence[Any]) -> bytes:
    kinds = {_kind(name, value) for value in values}
    if len(kinds) > 1:
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {sorted(kinds)[0]}")
    if not kinds:
        return b""
    kind = kinds.pop()
    if kind == "bytes":
        words = (decode_base64(value) if isinstance(value, dict) else value.encode() for value in values)
        return protobuf.message(1, b"".join(protobuf.message(1, word) for word in words))
    if kind == "float":
        return protobuf.message(2, protobuf.message(1, _floats(values)))
    return protobuf.message(3, protobuf.message(1, b"".join(protobuf.varint(int(value)) for value in values)))


def _floats(values: Sequence[float]) -> bytes:
    try:
        return struct.pack(f"<{len(values)}f", *values)
    except OverflowError:
        raise invalid(
            f"Cannot convert JSON value: {max(values, key=abs)} to float without loss of precision."
        ) from None


def _kind(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "int64"
    if isinstance(value, int):
        if value not in _INT64:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        return "int64"
    if isinstance(value, float):
        return "float"
    if isinstance(value, str) or (isinstance(value, dict) and set(value) == {"b64"}):
        return "bytes"
    shown = "Array" if isinstance(value, list) else "Object" if isinstance(value, dict) else "Null"
    raise invalid(f"Feature: {name} has element with unexpected JSON type: {shown}")


def example_input(examples: Sequence[bytes]) -> Array:
    """The input of a signature for classification or regression."""
    if not examples:
        raise invalid("Input is empty.")
    array = np.empty(len(examples), dtype=object)
    array[:] = list(examples)
    return array


def check_classification(name: str, signature: SignatureFacts | None) -> SignatureFacts:
    """Raise ``ServingError`` unless a signature classifies."""
    found = _check_method(name, signature, "classification", CLASSIFY)
    if not set(found.outputs) & {"classes", "scores"}:
        problem = 'Expected classification signature outputs to contain at least one of "classes" or "scores".'
        raise ServingError(StatusCode.FAILED_PRECONDITION, problem)
    return found


def check_regression(name: str, signature: SignatureFacts | None) -> SignatureFacts:
    """Raise ``ServingError`` unless a signature regresses."""
    found = _check_method(name, signature, "regression", REGRESS)
    if "outputs" not in found.outputs:
        raise ServingError(StatusCode.FAILED_PRECONDITION, "No regression outputs found in SignatureDef")
    return found


def _check_method(name: str, signature: SignatureFacts | None, what: str, method: str) -> SignatureFacts:
    if signature is None:
        raise invalid(f"No signature was found with the name: {name}")
    if signature.method != method:
        raise invalid(f"Expected {what} signature method_name to be {method}. Was: {signature.method}")
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if "inputs" not in signature.inputs:
        raise ServingError(StatusCode.FAILED_PRECONDITION, f"No {what} inputs found in SignatureDef")
    return signature


def classifications(outputs: Mapping[str, Array], examples: int) -> list[list[tuple[str, float]]]:
    """Labels and scores of each example."""
    found = {name: outputs[name] for name in ("classes", "scores") if name in outputs}
    for name, array in found.items():
        if array.ndim != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
        if array.shape[0] != examples:
            raise invalid(f"Expected {name} output batch size of {examples}. Got: {array.shape[0]}")
    if len({array.shape[1] for array in found.values()}) > 1:
        sizes = " vs. ".join(str(array.shape[1]) for array in found.values())
        raise invalid(f"Tensors class and score should match in dim_size(1). Got {sizes}")
    count = next(iter(found.values())).shape[1]
    classes = found["classes"].tolist() if "classes" in found else [[b""] * count] * examples
    scores = found["scores"].tolist() if "scores" in found else [[0.0] * count] * examples
    return [
        [(_text(label), float(score)) for label, score in zip(*pair, strict=True)]
        for pair in zip(classes, scores, strict=True)
    ]


def _text(label: Any) -> str:
    return label.decode(errors="replace") if isinstance(label, bytes) else str(label)


def regressions(outputs: Mapping[str, Array], examples: int) -> list[float]:
    """The value of each example."""
    array = outputs["outputs"]
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != 1):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {array.shape}"
        )
    if array.shape[0] != examples:
        raise invalid(f"Expected output batch size of {examples}. Got: {array.shape[0]}")
    return [float(value) for value in array.ravel().tolist()]
