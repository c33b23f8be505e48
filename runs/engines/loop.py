"""The loop of an engine process: reads requests of all fronts, joins them, computes, replies."""

from __future__ import annotations

import collections
import contextlib
import logging
import selectors
import socket
import time
from collections.abc import Sequence
from typing import NamedTuple

from saman.runs.engines import frames
from saman.runs.engines.batches import Arrays, Key, batch_key, join, rows_of, split
from saman.runs.engines.frames import BrokenFrame, Frame, FrameReader
from saman.runs.engines.interface import BatchLimits, Engine, EngineError

_CHUNK = 1 << 18
_log = logging.getLogger(__name__)


class _Connection:
    """A front: what it sent, and what it has not taken yet."""

    def __init__(self, channel: socket.socket) -> None:
        channel.setblocking(False)
        self.channel, self.reader, self.unsent = channel, FrameReader(), bytearray()
        self.is_blocked = False  # the selector waits until the front takes more

    def flush(self) -> None:
        """Send as much as the socket takes; raises ``OSError`` where the front is gone."""
        while self.unsent:
            try:
                sent = self.channel.send(self.unsent)
            except BlockingIOError:
                return
            del self.unsent[:sent]


class _Pending(NamedTuple):
    connection: _Connection
    frame: Frame
    key: Key | None
    rows: int
    arrived: float


class EngineLoop:
    """Serves an engine on a listening Unix socket until ``stop``."""

    def __init__(self, engine: Engine, listener: socket.socket, limits: BatchLimits) -> None:
        self._engine, self._listener, self._limits = engine, listener, limits
        self._selector = selectors.DefaultSelector()
        self._queue: collections.deque[_Pending] = collections.deque()
        self._stopping = False
        self._waker, self._woken = socket.socketpair()

    def stop(self) -> None:
        """End ``run`` after the requests that have arrived; may be called by a signal handler, or another thread."""
        self._stopping = True
        with contextlib.suppress(OSError):
            self._waker.send(b"\0")

    def successor(self) -> EngineLoop:
        """A loop for another thread, after this one has ended with no connection left."""
        for each in (self._selector, self._waker, self._woken):
            each.close()
        return EngineLoop(self._engine, self._listener, self._limits)

    def run(self) -> None:
        """Serve; returns after ``stop``."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._selector.register(self._woken, selectors.EVENT_READ, None)
        while self._queue or not self._stopping:
            self._receive(self._patience())
            if self._queue and self._patience() == 0:
                self._compute(self._next_batch())

    def _patience(self) -> float:
        """Seconds to wait for further requests before the next batch is computed."""
        if not self._queue:
            return 0.2
        first = self._queue[0]
        if not self._limits.delay_seconds or first.key is None:
            return 0.0
        if sum(other.rows for other in self._queue) >= self._limits.rows:
            return 0.0
        return max(0.0, first.arrived + self._limits.delay_seconds - time.monotonic())

    def _receive(self, seconds: float) -> None:
        for key, mask in self._selector.select(seconds):
            if key.fileobj is self._woken:
                self._woken.recv(1)
                continue
            if key.data is None:
                with contextlib.suppress(OSError):
                    accepted = _Connection(self._listener.accept()[0])
                    self._selector.register(accepted.channel, selectors.EVENT_READ, accepted)
                continue
            self._serve_connection(key.data, mask)

    def _serve_connection(self, connection: _Connection, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                self._flush(connection)
            if mask & selectors.EVENT_READ:
                data = connection.channel.recv(_CHUNK)
                if not data:
                    raise BrokenFrame("the front closed the connection")
                now = time.monotonic()
                for frame in connection.reader.feed(data):
                    key = batch_key(frame.text, frame.arrays)
                    self._queue.append(_Pending(connection, frame, key, rows_of(frame.arrays) or 1, now))
        except BlockingIOError:
            return
        except (BrokenFrame, OSError) as error:
            _log.debug("a connection ends: %s", error)
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.channel)
        connection.channel.close()
        self._queue = collections.deque(item for item in self._queue if item.connection is not connection)

    def _next_batch(self) -> list[_Pending]:
        """Take the oldest request, and those that may be computed with it."""
        first = self._queue.popleft()
        batch, rows, left = [first], first.rows, collections.deque[_Pending]()
        while self._queue and first.key is not None and rows < self._limits.rows:
            other = self._queue.popleft()
            if other.key == first.key and rows + other.rows <= self._limits.rows:
                batch.append(other)
                rows += other.rows
            else:
                left.append(other)
        self._queue.extendleft(reversed(left))
        return batch

    def _compute(self, batch: Sequence[_Pending]) -> None:
        now = time.monotonic()
        late = [item for item in batch if 0 < item.frame.deadline <= now]
        for item in late:
            self._reply(item, Frame(item.frame.number, "Deadline exceeded before the computation", {},
                                    frames.DEADLINE_EXCEEDED))  # fmt: skip
        on_time = [item for item in batch if not 0 < item.frame.deadline <= now] if late else batch
        if on_time:
            self._answer(on_time)
        for connection in {item.connection for item in batch}:  # a batch's answers leave, and wake the front, together
            self._flush(connection)

    def _answer(self, batch: Sequence[_Pending]) -> None:
        signature = batch[0].frame.text
        answers: list[Arrays] | None = None
        if len(batch) > 1:
            # A request that cannot be computed must not fail its neighbours: then each is computed alone.
            with contextlib.suppress(Exception):
                joined = join([item.frame.arrays for item in batch])
                answers = split(self._engine.run(signature, joined), [item.rows for item in batch])
        if answers is None:
            for item in batch:
                self._reply(item, self._run_alone(item.frame))
            return
        for item, outputs in zip(batch, answers, strict=True):
            self._reply(item, Frame(item.frame.number, "", outputs))

    def _run_alone(self, frame: Frame) -> Frame:
        try:
            return Frame(frame.number, "", self._engine.run(frame.text, frame.arrays))
        except EngineError as error:
            return Frame(frame.number, error.message, {}, error.code)
        except MemoryError:
            return Frame(frame.number, "The engine has too little memory for this request", {}, frames.INTERNAL)
        except Exception as error:  # libraries raise errors of any kind
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:500]
            return Frame(frame.number, said, {}, frames.INVALID_ARGUMENT)

    def _reply(self, item: _Pending, frame: Frame) -> None:
        try:
            item.connection.unsent += frames.encode(frame)
        except (BrokenFrame, KeyError) as error:
            lost = Frame(frame.number, f"The answer cannot be sent: {error}", {}, frames.INTERNAL)
            item.connection.unsent += frames.encode(lost)

    def _flush(self, connection: _Connection) -> None:
        try:
            connection.flush()
        except OSError:
            self._drop(connection)
            return
        if connection.is_blocked != bool(connection.unsent):
            connection.is_blocked = not connection.is_blocked
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.is_blocked else 0)
            with contextlib.suppress(KeyError, ValueError):
                self._selector.modify(connection.channel, wanted, connection)
