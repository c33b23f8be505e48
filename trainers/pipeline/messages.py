"""Messages of a stage to its neighbours, as nodes of a graph or at once, and the time that they take."""

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

# Tags besides those of micro-batches. CREDIT: an empty message with which a stage lets the stage before it send another
# inference batch. RETURN: results on their way back to the first stage.
CREDIT, RETURN = 1 << 20, 1 << 20 | 1


@dataclass
class MessageTime:
    """Seconds of a telemetry window: waiting for messages, and handing tensors to the transport.

    ``cpu_seconds`` is the CPU time of both: a transport that polls computes while it waits.
    """

    waiting_seconds: float = 0.0
    transfer_seconds: float = 0.0
    cpu_seconds: float = 0.0


class Messages:
    """Times a transport, and keeps its errors, which TensorFlow would replace by its own.

    Attributes:
        time: The time since the window began; a new window replaces it.
        transport: The transport that is timed.
    """

    def __init__(self, transport: Transport) -> None:
        self.time = MessageTime()
        self.transport = transport
        self._problem: Exception | None = None

    def receive(self, stage: int, tag: int) -> list[np.ndarray]:
        """Wait for the next message of ``tag`` from ``stage``.

        Raises:
            StageLost: The stage has ended.
        """
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            return self.transport.receive(stage, tag)
        except Exception as problem:
            self._problem = problem
            raise
        finally:
            self.time.waiting_seconds += time.perf_counter() - began
            self.time.cpu_seconds += time.thread_time() - cpu

    def send(self, stage: int, tag: int, arrays: Sequence[np.ndarray]) -> None:
        """Send and return at once; the arrays must not change afterwards."""
        began, cpu = time.perf_counter(), time.thread_time()
        self.transport.send(stage, tag, arrays)
        self.time.transfer_seconds += time.perf_counter() - began
        self.time.cpu_seconds += time.thread_time() - cpu

    def receive_nodes(self, stage: int, tag: int, specs: Sequence[TensorSpec]) -> list[Any]:
        """Return graph nodes for the tensors of a message; the graph waits for the message when it runs them.

        Args:
            stage: The sender.
            tag: The message's tag.
            specs: Type and shape of each tensor; no node without tensors.
        """
        if not specs:
            return []
        tensors = tf.numpy_function(lambda: self.receive(stage, tag), [], [tf.as_dtype(spec.dtype) for spec in specs])
        for tensor, spec in zip(tensors, specs, strict=True):
            tensor.set_shape(spec.shape)
        return list(tensors)

    def send_node(self, stage: int, tag: int, tensors: Sequence[Any]) -> Any:
        """Return a graph node that hands tensors to the transport.

        Args:
            stage: The receiver.
            tag: The message's tag.
            tensors: The tensors of the message.
        """

        def send(*arrays: np.ndarray) -> np.ndarray:
            self.send(stage, tag, arrays)
            return np.zeros((), np.int32)

        return tf.numpy_function(send, list(tensors), tf.int32)

    @contextmanager
    def own_errors(self) -> Iterator[None]:
        """Raise the error of a node itself instead of TensorFlow's report of it."""
        try:
            yield
        except tf.errors.OpError:
            if self._problem is not None:
                raise self._problem from None
            raise

    def send_named(self, stage: int, state: Mapping[str, np.ndarray]) -> None:
        """Send named arrays back towards the first stage."""
        names = np.frombuffer("\n".join(state).encode(), np.uint8)
        self.transport.send(stage, RETURN, [names, *(np.asarray(value) for value in state.values())])

    def receive_named(self, stage: int) -> dict[str, np.ndarray]:
        """Wait for the named arrays that ``stage`` sends with ``send_named``."""
        names, *arrays = self.transport.receive(stage, RETURN)
        return dict(zip(names.tobytes().decode().split("\n"), arrays, strict=True))
