"""Pages for clients of a model, made from its signatures: OpenAPI for REST, a text with messages for gRPC."""

from __future__ import annotations

from typing import Any

from saman.serving.front.table import ServedModel, ServedVersion
from saman.serving.interface.signatures import DEFAULT, SignatureFacts, TensorFacts
from saman.serving.interface.tensors import NAMES, STRING

_INTEGERS = frozenset({3, 4, 5, 6, 9, 17, 22, 23})
_BOOL = 10


def openapi_page(model: ServedModel, version: ServedVersion) -> dict[str, Any]:
    """The OpenAPI 3.1 description of a version: its status, metadata and predictions."""
    base = f"/v1/models/{model.name}"
    paths = {
        base: {"get": _operation("Status of all versions")},
        f"{base}/metadata": {"get": _operation("Signatures")},
    }
    signature = version.signatures.get(DEFAULT)
    if signature is not None:
        for place in (base, f"{base}/versions/{version.number}", *(f"{base}/labels/{label}" for label in model.labels)):
            paths[f"{place}:predict"] = {"post": _predict(signature)}
    about = {"title": model.name, "version": str(version.number)}
    return {"openapi": "3.1.0", "info": about, "paths": paths}


def _operation(
    summary: str, body: dict[str, Any] | None = None, answer: dict[str, Any] | None = None
) -> dict[str, Any]:
    errors = {"type": "object", "properties": {"error": {"type": "string"}}}
    found: dict[str, Any] = {
        "summary": summary,
        "responses": {
            "200": {"description": "OK", "content": _json(answer or {"type": "object"})},
            "default": {"description": "An error", "content": _json(errors)},
        },
    }
    if body is not None:
        found["requestBody"] = {"required": True, "content": _json(body)}
    return found


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _predict(signature: SignatureFacts) -> dict[str, Any]:
    rows = {"type": "object", "required": ["instances"], "properties": {"instances": _rows(signature.inputs)}}
    columns = {"type": "object", "required": ["inputs"], "properties": {"inputs": _columns(signature.inputs)}}
    answers = {
        "oneOf": [
            {"type": "object", "properties": {"predictions": _rows(signature.outputs)}},
            {"type": "object", "properties": {"outputs": _columns(signature.outputs)}},
        ]
    }
    return _operation("Predictions", {"oneOf": [rows, columns]}, answers)


def _rows(tensors: Any) -> dict[str, Any]:
    each = {name: _schema(facts, skip=1) for name, facts in tensors.items()}
    if len(each) == 1:
        return {"type": "array", "items": next(iter(each.values()))}
    return {"type": "array", "items": {"type": "object", "properties": each, "required": sorted(each)}}


def _columns(tensors: Any) -> dict[str, Any]:
    each = {name: _schema(facts) for name, facts in tensors.items()}
    if len(each) == 1:
        return next(iter(each.values()))
    return {"type": "object", "properties": each, "required": sorted(each)}


def _schema(facts: TensorFacts, skip: int = 0) -> dict[str, Any]:
    """Nested arrays of the tensor's shape, without its first ``skip`` dimensions."""
    if facts.shape is None:
        return {}
    schema = _element(facts.dtype)
    for size in reversed(facts.shape[skip:]):
        schema = {"type": "array", "items": schema}
        if size >= 0:
            schema |= {"minItems": size, "maxItems": size}
    return schema


def _element(dtype: int) -> dict[str, Any]:
    if dtype == STRING:
        encoded = {"type": "object", "properties": {"b64": {"type": "string"}}, "required": ["b64"]}
        return {"oneOf": [{"type": "string"}, encoded]}
    if dtype == _BOOL:
        return {"type": "boolean"}
    return {"type": "integer" if dtype in _INTEGERS else "number"}


def proto_page(model: str, version: ServedVersion) -> str:
    """What a client of gRPC sends and receives, as comments on TensorFlow Serving's messages."""
    lines = [
        f"// {model} version {version.number}, over tensorflow.serving.PredictionService/Predict.",
        "// Messages: tensorflow_serving/apis/predict.proto.",
    ]
    for name, signature in version.signatures.items():
        lines += ["", f'// model_spec {{ name: "{model}" signature_name: "{name}" }}', f"// {signature.method}"]
        for title, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs)):
            for key, facts in tensors.items():
                shape = "?" if facts.shape is None else ", ".join(str(size) for size in facts.shape)
                lines.append(f'{title}["{key}"]: TensorProto  // {NAMES.get(facts.dtype, "DT_INVALID")} [{shape}]')
    return "\n".join(lines) + "\n"
