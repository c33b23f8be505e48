"""What an engine is to the loop of its process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from saman.runs.engines.batches import Arrays


class EngineError(Exception):
    """A request that the engine refuses; ``code`` is a gRPC status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Engine(Protocol):
    """A loaded model."""

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        """Compute a batch.

        Raises:
            EngineError: The request does not fit the model.
        """


class EngineKind(Protocol):
    """Loads models; its module imports the library."""

    def __call__(self, path: Path, threads: int) -> Engine:
        """Load the model in ``path``; may raise any error."""


@dataclass(frozen=True)
class BatchLimits:
    """How requests are joined.

    Attributes:
        rows: Most examples of a batch. A larger request is computed alone.
        delay_seconds: How long the first request of a batch waits for others. With 0 a batch holds the requests that
            arrived while the engine computed.
    """

    rows: int = 16
    delay_seconds: float = 0.0
