"""The signatures of a SavedModel, read from ``saved_model.pb`` without TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError

from saman.configs.errors import UserError
from saman.serving.interface.messages import message_class
from saman.serving.interface.tensors import NAMES

DEFAULT = "serving_default"
_INTERNAL = ("__saved_model_init_op", "__saved_model_train_op")
PREDICT, CLASSIFY, REGRESS = (f"tensorflow/serving/{name}" for name in ("predict", "classify", "regress"))


@dataclass(frozen=True)
class TensorFacts:
    """An input or output: its name in the graph, its type (types.proto), and its shape.

    ``shape`` is ``None`` for an unknown rank; -1 stands for any size.
    """

    name: str
    dtype: int
    shape: tuple[int, ...] | None

    def to_json(self) -> dict[str, Any]:
        """The protocol buffer as JSON, as TensorFlow Serving prints it."""
        dims = [{"size": str(size), "name": ""} for size in self.shape or ()]
        shape = {"dim": dims, "unknown_rank": self.shape is None}
        return {"dtype": NAMES.get(self.dtype, "DT_INVALID"), "tensor_shape": shape, "name": self.name}


@dataclass(frozen=True)
class SignatureFacts:
    """A signature."""

    method: str
    inputs: Mapping[str, TensorFacts] = field(default_factory=dict)
    outputs: Mapping[str, TensorFacts] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The protocol buffer as JSON, as TensorFlow Serving prints it."""
        inputs = {name: tensor.to_json() for name, tensor in self.inputs.items()}
        outputs = {name: tensor.to_json() for name, tensor in self.outputs.items()}
        return {"inputs": inputs, "outputs": outputs, "method_name": self.method}


Signatures = Mapping[str, SignatureFacts]


def read_signature_map(saved_model: Path) -> bytes:
    """Read the signatures of the part for serving as a serialised ``SignatureDefMap``.

    Raises:
        UserError: The file is no SavedModel, or holds no part for serving.
    """
    file = saved_model / "saved_model.pb"
    try:
        parsed = message_class("SavedModel").FromString(file.read_bytes())
    except (DecodeError, OSError) as error:
        raise UserError(f"the SavedModel cannot be read: {error}", where=str(file)) from error
    parts = [part for part in parsed.meta_graphs if "serve" in part.meta_info_def.tags]
    if not parts:
        raise UserError("the SavedModel has no part tagged 'serve'", where=str(file))
    found = message_class("SignatureDefMap")()
    for name, signature in parts[0].signature_def.items():
        found.signature_def[name].CopyFrom(signature)
    return bytes(found.SerializeToString(deterministic=True))


def parse_signatures(data: bytes) -> Signatures:
    """The signatures in a ``SignatureDefMap``, without those that TensorFlow uses itself."""
    found = message_class("SignatureDefMap").FromString(data).signature_def
    return {name: _facts(signature) for name, signature in sorted(found.items()) if name not in _INTERNAL}


def _facts(signature: Any) -> SignatureFacts:
    return SignatureFacts(signature.method_name, _tensors(signature.inputs), _tensors(signature.outputs))


def _tensors(found: Any) -> dict[str, TensorFacts]:
    return {
        name: TensorFacts(
            about.name,
            about.dtype,
            None if about.tensor_shape.unknown_rank else tuple(dim.size for dim in about.tensor_shape.dim),
        )
        for name, about in sorted(found.items())
    }
