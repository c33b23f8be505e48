"""What a front serves: models, versions, labels and engines, as the supervisor tells it, and the front's settings."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from functools import cached_property
from typing import Any

from saman.serving.interface.signatures import Signatures, parse_signatures
from saman.serving.interface.status import invalid, not_found


class VersionLife(int, Enum):
    """The life of a version in a server (get_model_status.proto)."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True)
class ServedVersion:
    """A version: the socket of its engine, its signatures, and its life; ``problem`` says why it is not served.

    ``files`` is what a front may load to compute the version itself; empty: the engine process computes everything.
    """

    number: int
    life: VersionLife
    socket: str = ""
    signature_map: bytes = b""
    problem: str = ""
    files: str = ""

    @cached_property
    def signatures(self) -> Signatures:
        """The signatures by name."""
        return parse_signatures(self.signature_map)

    @property
    def is_available(self) -> bool:
        """Whether the front may send it requests."""
        return self.life is VersionLife.AVAILABLE

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        encoded = base64.b64encode(self.signature_map).decode()
        return {**asdict(self), "life": self.life.value, "signature_map": encoded}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ServedVersion:
        """The version of the front's table, from plain values."""
        decoded = base64.b64decode(value["signature_map"])
        return cls(**{**value, "life": VersionLife(value["life"]), "signature_map": decoded})


@dataclass(frozen=True)
class ServedModel:
    """A model: ``default`` answers requests that name neither version nor label."""

    name: str
    default: int | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    versions: Mapping[int, ServedVersion] = field(default_factory=dict)

    def find(self, number: int | None, label: str | None) -> ServedVersion:
        """The version that a request means; raises ``ServingError``, with TensorFlow Serving's texts."""
        if label is not None:
            if label not in self.labels:
                raise invalid(f"Unrecognized servable version label: {label}")
            number = self.labels[label]
        wanted = self.default if number is None else number
        version = None if wanted is None else self.versions.get(wanted)
        if version is None or not version.is_available:
            what = f"Latest({self.name})" if number is None else f"Specific({self.name}, {number})"
            raise not_found(f"Servable not found for request: {what}")
        return version

    def to_json(self) -> dict[str, Any]:
        """Plain values for the front's table."""
        versions = [version.to_json() for version in self.versions.values()]
        return {"name": self.name, "default": self.default, "labels": dict(self.labels), "versions": versions}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ServedModel:
        """The model of the front's table, from plain values."""
        versions = {int(each["number"]): ServedVersion.from_json(each) for each in value["versions"]}
        return cls(value["name"], value["default"], dict(value["labels"]), versions)


@dataclass(frozen=True)
class ServingTable:
    """Everything that is served. A front exchanges the table as a whole, so labels move in one step."""

    models: Mapping[str, ServedModel] = field(default_factory=dict)

    def find(self, name: str) -> ServedModel:
        """A model; raises ``ServingError``."""
        model = self.models.get(name)
        if model is None:
            raise not_found(f"Servable not found for request: Latest({name})")
        return model

    def sockets(self) -> set[str]:
        """The sockets of the engines of all available versions."""
        found = (version for model in self.models.values() for version in model.versions.values())
        return {version.socket for version in found if version.is_available}

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"models": [model.to_json() for model in self.models.values()]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ServingTable:
        """The table of plain values."""
        models = (ServedModel.from_json(each) for each in value["models"])
        return cls({model.name: model for model in models})


@dataclass(frozen=True)
class FrontSettings:
    """How a front listens, and what it accepts.

    Attributes:
        rest_socket: Descriptor of the listening socket, which the supervisor holds open while a front restarts.
        host: The address of gRPC's port.
        grpc_port: Its number; 0 for no gRPC.
        body_bytes: Largest body of a request.
        queue: Most requests of a version that wait or are computed.
        timeout_seconds: The deadline of a request that brings none.
        certificate, key: TLS files in PEM; empty for none.
        tokens: The file with the digests of tokens; empty for none.
        computes: Whether it computes small models itself.
        threads: Threads of a model that it computes.
        rows: Most examples of a batch that it computes.
        models_dir: The registry.
    """

    rest_socket: int
    host: str
    grpc_port: int
    models_dir: str
    body_bytes: int = 32 << 20
    queue: int = 1000
    timeout_seconds: float = 30.0
    certificate: str = ""
    key: str = ""
    tokens: str = ""
    computes: bool = False
    threads: int = 1
    rows: int = 16

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
