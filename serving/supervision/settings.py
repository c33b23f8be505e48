"""What ``saman serve`` was asked for, and what it refuses."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from saman.configs.errors import UserError
from saman.registry.store.layout import VersionSpec, find_model, list_models, parse_spec
from saman.runs.engines.interface import BatchLimits
from saman.serving.front.access import read_access


class EngineChoice(str, Enum):
    """The engine: ``auto`` takes OpenVINO where it answers like the version, else TensorFlow."""

    AUTO = "auto"
    OPENVINO = "openvino"
    TENSORFLOW = "tensorflow"
    ONNX = "onnx"


@dataclass(frozen=True)
class ServeSettings:
    """The settings of a server.

    Attributes:
        models_dir: The registry.
        specs: What is served.
        engine: The engine of every version.
        host, rest_port, grpc_port: Where fronts listen; port 0 takes a free port.
        fronts: Front processes, which share the ports.
        threads: Threads of each engine.
        batches: How requests are joined.
        queue: Most waiting requests of a version in each front.
        body_bytes: Largest body.
        timeout_seconds: Longest time of a request.
        certificate, key: TLS files in PEM.
        tokens: File with the digests of tokens.
        insecure: Listen beyond this machine without TLS or tokens.
        isolate: Compute in engine processes only.
    """

    models_dir: Path
    specs: tuple[VersionSpec, ...]
    engine: EngineChoice = EngineChoice.AUTO
    host: str = "127.0.0.1"
    rest_port: int = 8501
    grpc_port: int = 8500
    fronts: int = 1
    threads: int = 1
    batches: BatchLimits = BatchLimits()
    queue: int = 1000
    body_bytes: int = 32 << 20
    timeout_seconds: float = 30.0
    certificate: Path | None = None
    key: Path | None = None
    tokens: Path | None = None
    insecure: bool = False
    isolate: bool = False

    @property
    def fronts_compute(self) -> bool:
        """Whether fronts compute small models themselves; they join what waits, without a delay."""
        local = self.engine in (EngineChoice.AUTO, EngineChoice.OPENVINO)
        return local and not self.isolate and not self.batches.delay_seconds

    def check(self) -> None:
        """Raise ``UserError`` for settings that contradict each other or expose the models."""
        if (self.certificate is None) != (self.key is None):
            raise UserError("TLS needs a certificate and its key", remedy="give --certificate and --key")
        for option, port in (("--port", self.rest_port), ("--grpc-port", self.grpc_port)):
            if not 0 <= port <= 65535:
                raise UserError(f"{port} is not a port", where=option, remedy="0 to 65535; 0 takes a free port")
        if self.certificate is not None and self.key is not None:
            check_pair(self.certificate, self.key)
        read_access(self.tokens)
        if is_local(self.host) or self.insecure:
            return
        lacking = [
            name
            for name, given in (("--certificate and --key", self.certificate), ("--tokens", self.tokens))
            if not given
        ]
        if lacking:
            problem = f"listening on {self.host} without {' or '.join(lacking)} lets others ask, or read what they ask"
            raise UserError(problem, where="--host", remedy=f"give {' and '.join(lacking)}; --insecure allows it")


def check_pair(certificate: Path, key: Path) -> None:
    """Raise ``UserError`` unless a certificate and its key can be used: a front that cannot start would start again."""
    for file in (certificate, key):
        if not file.is_file():
            raise UserError("no such file", where=str(file), remedy="a file in PEM")
    try:
        # A password that is wrong: without any, an encrypted key would be asked for on the terminal of each front.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        problem = f"not a certificate and its unencrypted key in PEM: {getattr(error, 'strerror', None) or error}"
        raise UserError(problem, where=f"{certificate}, {key}", remedy="openssl x509 -in FILE -noout") from None


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def choose_specs(models_dir: Path, names: Sequence[str], *, everything: bool) -> tuple[VersionSpec, ...]:
    """By the supervisor's settings, what to serve; ``UserError`` for no model, an unknown model, or one named twice."""
    if everything == bool(names):
        raise UserError("name the models to serve, or give --all", remedy="saman serve NAME; saman models list")
    specs = tuple(parse_spec(name) for name in names)
    if everything:
        specs = tuple(VersionSpec(folder.name) for folder in list_models(models_dir))
        if not specs:
            raise UserError(f"{models_dir} holds no model", remedy="saman models publish RUN")
    for spec in specs:
        find_model(models_dir, spec.name)
    if twice := {spec.name for spec in specs if [other.name for other in specs].count(spec.name) > 1}:
        raise UserError(f"{min(twice)} is named twice", remedy="a server serves a model once; name the model alone")
    return specs
