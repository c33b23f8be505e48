"""What an engine is to the loop of its process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from saman.runs.engines.batches import Arrays

COMPILED = "compiled"  # in the folder of a model's private copy: what a library has compiled, for other processes


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

    def __call__(self, path: Path, threads: int, *, ahead: int = 0) -> Engine:
        """Load the model in ``path``; may raise any error.

        Args:
            path: The model's folder.
            threads: Threads of a computation.
            ahead: Processes will load the model later, for batches of up to so many examples: what can be prepared for
                them is left in the folder ``COMPILED``, where there is one. 0: nothing is.
        """


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
