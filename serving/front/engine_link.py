"""A front's connection to an engine: requests out, replies back, and what happens when the engine is killed.

After a lost connection the front connects again as soon as the supervisor has restarted the engine. Requests that were
under way may have killed it, so they are sent again one by one: the one that loses the engine twice alone fails, the
others are answered. Computing a request twice changes nothing.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import time

from saman.runs.engines import frames
from saman.runs.engines.batches import Arrays
from saman.runs.engines.frames import BrokenFrame, Frame, FrameReader
from saman.serving.interface.status import ServingError, StatusCode

_RETRY_SECONDS = 0.02
_MOST_LOSSES = 2


class _Waiting:
    """A request and its answer to come."""

    __slots__ = ("answer", "data", "deadline", "losses")

    def __init__(self, data: bytes, deadline: float, answer: asyncio.Future[Arrays]) -> None:
        self.data, self.deadline, self.answer = data, deadline, answer
        self.losses = 0  # engines that ended while they computed this request alone


class _Channel(asyncio.Protocol):
    def __init__(self, link: EngineLink) -> None:
        self._link, self._reader = link, FrameReader()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._reader.feed(data):
                self._link.receive(frame)
        except BrokenFrame:
            if self.transport is not None:
                self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lose(self)


class EngineLink:
    """The requests of a front to one engine.

    Args:
        path: The engine's socket.
        most: Most requests that wait or are computed; more are refused.
    """

    def __init__(self, path: str, most: int) -> None:
        self._path, self._most = path, most
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Waiting] = {}
        self._held: collections.deque[int] = collections.deque()  # not sent: no connection, or suspects go first
        self._suspects: collections.deque[int] = collections.deque()
        self._channel: _Channel | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def open_requests(self) -> int:
        """Requests that wait or are computed."""
        return len(self._pending)

    async def open(self) -> None:
        """Connect now, or as soon as the engine listens."""
        try:
            await self._connect()
        except OSError:
            self._connecting = asyncio.get_running_loop().create_task(self._reconnect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_unix_connection(lambda: _Channel(self), self._path)
        self._channel = channel
        self._resume()

    def send(self, signature: str, inputs: Arrays, deadline: float) -> asyncio.Future[Arrays]:
        """Send a request.

        Args:
            signature: The signature.
            inputs: The inputs by name.
            deadline: In seconds of ``time.monotonic``.

        Returns:
            The outputs, or a ``ServingError``.

        Raises:
            ServingError: The queue is full.
        """
        if len(self._pending) >= self._most:
            raise ServingError(StatusCode.RESOURCE_EXHAUSTED, f"The queue of {self._most} requests is full")
        number = next(self._numbers)
        data = frames.encode(Frame(number, signature, inputs, deadline=deadline))
        answer: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
        self._pending[number] = _Waiting(data, deadline, answer)
        if self._channel is None or self._channel.transport is None or self._suspects:
            self._held.append(number)
        else:
            self._channel.transport.write(data)
        return answer

    def receive(self, frame: Frame) -> None:
        """Take a reply."""
        if self._suspects and self._suspects[0] == frame.number:
            self._suspects.popleft()
            self._resume()
        waiting = self._pending.pop(frame.number, None)
        if waiting is None or waiting.answer.done():
            return
        if frame.code == frames.OK:
            waiting.answer.set_result(frame.arrays)
        else:
            waiting.answer.set_exception(ServingError(StatusCode(frame.code), frame.text))

    def lose(self, channel: _Channel) -> None:
        """The connection is lost."""
        if channel is not self._channel:
            return
        self._channel = None
        if self._is_closed:
            return
        if self._suspects:
            self._note_loss(self._suspects[0])
        else:
            unsent = set(self._held)
            self._suspects.extend(number for number in self._pending if number not in unsent)
        self._connecting = asyncio.get_running_loop().create_task(self._reconnect())

    async def _reconnect(self) -> None:
        while not self._is_closed:
            with contextlib.suppress(OSError):
                await self._connect()
                return
            self.expire(time.monotonic())
            await asyncio.sleep(_RETRY_SECONDS)

    def expire(self, now: float) -> None:
        """Fail requests beyond their deadline."""
        for number in [number for number, waiting in self._pending.items() if waiting.deadline <= now]:
            waiting = self._pending.pop(number)
            if not waiting.answer.done():
                waiting.answer.set_exception(ServingError(StatusCode.DEADLINE_EXCEEDED, "Deadline exceeded"))

    def _resume(self) -> None:
        """Send the next suspect, or everything that was held."""
        if self._channel is None or self._channel.transport is None:
            return
        while self._suspects and self._suspects[0] not in self._pending:
            self._suspects.popleft()
        if self._suspects:
            self._channel.transport.write(self._pending[self._suspects[0]].data)
            return
        while self._held:
            waiting = self._pending.get(self._held.popleft())
            if waiting is not None:
                self._channel.transport.write(waiting.data)

    def _note_loss(self, number: int) -> None:
        """The engine ended while it computed a request alone; the engine may have been killed from outside, once."""
        waiting = self._pending.get(number)
        if waiting is not None:
            waiting.losses += 1
            if waiting.losses < _MOST_LOSSES:
                return
        self._suspects.popleft()
        self._fail(number, "The engine ended while it computed this request")

    def _fail(self, number: int, message: str) -> None:
        waiting = self._pending.pop(number, None)
        if waiting is not None and not waiting.answer.done():
            waiting.answer.set_exception(ServingError(StatusCode.INTERNAL, message))

    def close(self) -> None:
        """Close the connection; open requests fail as unavailable."""
        self._is_closed = True
        for waiting in self._pending.values():
            if not waiting.answer.done():
                waiting.answer.set_exception(ServingError(StatusCode.UNAVAILABLE, "The version was unloaded"))
        self._pending.clear()
        if self._channel is not None and self._channel.transport is not None:
            self._channel.transport.close()
