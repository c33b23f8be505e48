"""What a stage says to its neighbours: as nodes of a graph, or at once; with the seconds that it takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from saman.trainers.keras_compat import tf
from saman.trainers.pipeline.graph import TensorSpec
from saman.trainers.pipeline.transport import Transport

# Tags beside those of micro-batches: an empty message that lets the stage before send another inference batch, and
# what goes back to the first stage.
GO_ON, BACK = 1 << 20, 1 << 20 | 1


@dataclass
class Spent:
    """Seconds of a window: waiting for neighbours, handing tensors over."""

    waiting: float = 0.0
    transfer: float = 0.0


class Messages:
    """A transport whose seconds are counted, and whose failures are kept for who called TensorFlow."""

    def __init__(self, transport: Transport) -> None:
        self.spent = Spent()
        self.transport = transport
        self._problem: Exception | None = None

    def receive(self, stage: int, tag: int) -> list[np.ndarray]:
        """Wait for a message. Raises ``StageLost`` where it will never come."""
        began = time.perf_counter()
        try:
            return self.transport.receive(stage, tag)
        except Exception as problem:
            self._problem = problem
            raise
        finally:
            self.spent.waiting += time.perf_counter() - began

    def send(self, stage: int, tag: int, arrays: Sequence[np.ndarray]) -> None:
        """Send, and return at once; the arrays must not change afterwards."""
        began = time.perf_counter()
        self.transport.send(stage, tag, arrays)
        self.spent.transfer += time.perf_counter() - began

    def received(self, stage: int, tag: int, specs: Sequence[TensorSpec]) -> list[Any]:
        """Nodes for the tensors of a message, which the graph waits for where they stand."""
        if not specs:
            return []
        tensors = tf.numpy_function(lambda: self.receive(stage, tag), [], [tf.as_dtype(one.dtype) for one in specs])
        for tensor, spec in zip(tensors, specs, strict=True):
            tensor.set_shape(spec.shape)
        return list(tensors)

    def sent(self, stage: int, tag: int, tensors: Sequence[Any]) -> Any:
        """A node that is done when ``tensors`` are handed over."""

        def hand(*arrays: np.ndarray) -> np.ndarray:
            self.send(stage, tag, arrays)
            return np.zeros((), np.int32)

        return tf.numpy_function(hand, list(tensors), tf.int32)

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """What a node raised, instead of TensorFlow's word for it."""
        try:
            yield
        except tf.errors.OpError:
            if self._problem is not None:
                raise self._problem from None
            raise

    def send_named(self, stage: int, state: Mapping[str, np.ndarray]) -> None:
        """Send named arrays towards the first stage."""
        names = np.frombuffer("\n".join(state).encode(), np.uint8)
        self.transport.send(stage, BACK, [names, *(np.asarray(one) for one in state.values())])

    def receive_named(self, stage: int) -> dict[str, np.ndarray]:
        """Named arrays that ``stage`` has sent."""
        names, *arrays = self.transport.receive(stage, BACK)
        return dict(zip(names.tobytes().decode().split("\n"), arrays, strict=True))
