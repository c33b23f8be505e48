"""What every target needs to know of a server, and the choice of the target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from saman.configs.errors import UserError, choices


class ServeTarget(str, Enum):
    """What ``saman serve --print`` renders."""

    SYSTEMD = "systemd"
    KUBERNETES = "kubernetes"
    HAPROXY = "haproxy"
    SLURM = "slurm"


@dataclass(frozen=True)
class ServiceCommand:
    """A server as a service.

    Attributes:
        name: Name of the service: lower-case letters, digits and ``-``.
        program: Absolute path of ``saman``.
        words: The words after it, without ``--print`` and ``--slurm``; paths are absolute.
        directory: Working directory.
        models_dir: The models folder.
        rest_port: Port of the REST interface.
        grpc_port: Port of the gRPC interface.
        health_path: A path that answers 200 while the server is ready.
        servers: Addresses (``host:port`` of the REST interface) that are already registered.
    """

    name: str
    program: str
    words: tuple[str, ...]
    directory: Path
    models_dir: Path
    rest_port: int = 8501
    grpc_port: int = 8500
    health_path: str = "/monitoring/prometheus/metrics"
    servers: tuple[str, ...] = ()


Render = Callable[[ServiceCommand], str]


def find_target(text: str) -> ServeTarget:
    """The target of a deployment that a user named; raises ``UserError`` that lists all of them."""
    names = [target.value for target in ServeTarget]
    if text not in names:
        raise UserError(f"nothing is rendered for {text!r}", where="--print", remedy=choices(text, names))
    return ServeTarget(text)


def refuse_line_breaks(words: Sequence[str], target: str) -> None:
    """Refuse words that a line of a configuration cannot hold.

    Raises:
        UserError: A word contains a line break or another control character.
    """
    for word in words:
        if any(ord(character) < 32 or ord(character) == 127 for character in word):
            raise UserError(f"{word!r} contains a control character, which {target} cannot hold", remedy="rename it")
