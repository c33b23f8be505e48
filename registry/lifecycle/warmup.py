"""Warm-up requests that TensorFlow Serving replays when it loads a version, so that the first client does not wait.

``assets.extra/tf_serving_warmup_requests`` holds TFRecords of ``PredictionLog`` (tensorflow_serving/apis); the few
messages are written by hand, because tensorflow-serving-api would bring TensorFlow along.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from saman.registry.store import protobuf

# NumPy name -> DataType of tensorflow/core/framework/types.proto
DTYPES = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "int64": 9,
    "bool": 10,
    "uint16": 17,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
}
_PREDICT_LOG = 6  # PredictionLog.predict_log


def tensor_proto(value: np.ndarray[Any, Any]) -> bytes:
    """A ``TensorProto`` of a warm-up request, with raw little-endian content; ``KeyError`` for other dtypes."""
    dtype = DTYPES[value.dtype.name]
    dimensions = b"".join(protobuf.message(2, protobuf.integer(1, size)) for size in value.shape)
    content = np.ascontiguousarray(value).astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    return protobuf.integer(1, dtype) + protobuf.message(2, dimensions) + protobuf.message(4, content)


def predict_request(model: str, signature: str, inputs: dict[str, np.ndarray[Any, Any]]) -> bytes:
    """A serialised ``PredictRequest`` of TensorFlow Serving.

    Args:
        model: The model's name.
        signature: The name of the signature.
        inputs: The value of each input, by name.
    """
    spec = protobuf.text(1, model) + protobuf.text(3, signature)
    entries = (protobuf.text(1, name) + protobuf.message(2, tensor_proto(value)) for name, value in inputs.items())
    return protobuf.message(1, spec) + b"".join(protobuf.message(2, entry) for entry in entries)


def warmup_file(model: str, signature: str, input_name: str, sample: np.ndarray[Any, Any]) -> bytes:
    """The file's content: a request with a single example, and a request with all of ``sample``.

    Args:
        model: The model's name.
        signature: The name of the signature.
        input_name: The name of the signature's only input.
        sample: Examples, stacked along the first axis.
    """
    batches = [sample[:1]] if len(sample) < 2 else [sample[:1], sample]
    logs = (protobuf.message(1, predict_request(model, signature, {input_name: batch})) for batch in batches)
    return b"".join(protobuf.tfrecord(protobuf.message(_PREDICT_LOG, log)) for log in logs)
