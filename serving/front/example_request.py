"""A request that works, for the line that ``saman serve`` prints."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from saman.serving.front.table import ServedModel
from saman.serving.interface.signatures import DEFAULT, SignatureFacts, TensorFacts
from saman.serving.interface.tensors import STRING

_BOOL = 10
_LONGEST = 4000  # characters of a body that fits into a terminal


@dataclass(frozen=True)
class ExampleRequest:
    """Path and body of a request that works."""

    path: str
    body: str


def example_request(model: ServedModel) -> ExampleRequest | None:
    """A request with an example of zeros; ``None`` where the signature leaves a shape open, or it would be long."""
    version = model.versions.get(model.default or 0)
    signature = version.signatures.get(DEFAULT) if version is not None else None
    values = None if signature is None else _values(signature)
    if not values:
        return None
    instance = next(iter(values.values())) if len(values) == 1 else values
    body = json.dumps({"instances": [instance]}, separators=(",", ":"))
    return ExampleRequest(f"/v1/models/{model.name}:predict", body) if len(body) <= _LONGEST else None


def _values(signature: SignatureFacts) -> dict[str, Any] | None:
    found = {name: _value(facts) for name, facts in signature.inputs.items()}
    return None if any(value is None for value in found.values()) else found


def _value(facts: TensorFacts) -> Any:
    if not facts.shape or facts.shape[0] != -1 or -1 in facts.shape[1:]:
        return None
    value: Any = "" if facts.dtype == STRING else False if facts.dtype == _BOOL else 0
    for size in reversed(facts.shape[1:]):
        value = [value] * size
    return value
