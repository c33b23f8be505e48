"""HTTP/1.1 on httptools' parser: bodies of bounded size, keep-alive, pipelining, and an end without lost requests."""

from __future__ import annotations

import asyncio
import collections
import logging
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, NamedTuple

import httptools

_MOST_HEADERS = 100
_HEADER_BYTES = 32 << 10
_MOST_PIPELINED = 16
_LONGEST_REQUEST_SECONDS = 120.0  # from its first byte to its last
_log = logging.getLogger(__name__)


class HttpRequest(NamedTuple):
    """A whole request. Names of headers are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    arrived: float


class HttpAnswer(NamedTuple):
    """An answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    request_id: str = ""


Handler = Callable[[HttpRequest], Awaitable[HttpAnswer]]
_REASONS = {status.value: status.phrase for status in HTTPStatus}


class Connections:
    """The open connections of a front."""

    def __init__(self, handler: Handler, body_bytes: int, refuse: Callable[[str], bytes]) -> None:
        self.handler, self.body_bytes, self.refuse = handler, body_bytes, refuse
        self.open: set[HttpConnection] = set()
        self.is_closing = False
        self.tasks: set[asyncio.Task[None]] = set()

    def new(self) -> HttpConnection:
        """The protocol of a new connection."""
        return HttpConnection(self)

    def sweep(self, now: float) -> None:
        """End connections that send a request for longer than the limit, and with it hold a place and memory."""
        for connection in list(self.open):
            if connection.receives_since < now - _LONGEST_REQUEST_SECONDS:
                connection.abort()

    async def close(self, grace_seconds: float) -> None:
        """Answer what has arrived, then close every connection."""
        self.is_closing = True
        await asyncio.sleep(grace_seconds)  # requests that are on the wire
        while any(connection.is_busy for connection in self.open):
            await asyncio.sleep(0.01)
        for connection in list(self.open):
            connection.close()
        await asyncio.sleep(0)


class HttpConnection(asyncio.Protocol):
    """A connection: its requests are answered in their order."""

    def __init__(self, connections: Connections) -> None:
        self._all = connections
        self._parser: Any = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._waiting: collections.deque[tuple[HttpRequest, bool]] = collections.deque()
        self._task: asyncio.Task[None] | None = None
        self._is_refused = self._is_paused = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._arrived = 0.0
        self._begin()

    @property
    def is_busy(self) -> bool:
        """Whether a request is being received or answered."""
        return self._task is not None or bool(self._waiting) or self._is_receiving

    @property
    def receives_since(self) -> float:
        """When the request that is being received began; infinity without one."""
        return self._arrived if self._is_receiving else float("inf")

    # ---- asyncio -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = transport
        self._all.open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone; a running computation ends by itself."""
        self._all.open.discard(self)
        self._drained.set()

    def pause_writing(self) -> None:
        """The client reads slowly."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """The client has read."""
        self._drained.set()

    def data_received(self, data: bytes) -> None:
        """Parse."""
        if self._is_refused:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "Upgrades are not supported")
        except httptools.HttpParserError as error:
            if not self._is_refused:
                self._refuse(400, f"Malformed HTTP request: {error}")

    # ---- httptools ---------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._url, self._headers, self._parts = b"", {}, []  # type: ignore[var-annotated]
        self._size = self._header_size = 0
        self._is_receiving = False

    def on_message_begin(self) -> None:
        """A request begins."""
        self._begin()
        self._is_receiving = True
        self._arrived = time.monotonic()

    def on_url(self, url: bytes) -> None:
        """A part of the URL."""
        self._url += url
        self._bound_headers(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._bound_headers(len(name) + len(value))
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def _bound_headers(self, size: int) -> None:
        self._header_size += size
        if self._header_size > _HEADER_BYTES or len(self._headers) > _MOST_HEADERS:
            self._refuse(431, "The headers are too large")

    def on_headers_complete(self) -> None:
        """The body follows."""
        length = self._headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._all.body_bytes:
            self._refuse(413, f"The body of {length} bytes is larger than {self._all.body_bytes} bytes")
        elif self._headers.get("expect", "").lower() == "100-continue" and not self._is_refused:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        self._size += len(body)
        if self._size > self._all.body_bytes:
            self._refuse(413, f"The body is larger than {self._all.body_bytes} bytes")
        elif not self._is_refused:
            self._parts.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._is_refused:
            return
        parser = self._parser
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        path = self._url.decode("latin-1")
        request = HttpRequest(parser.get_method().decode(), path, self._headers, body, self._arrived)
        self._waiting.append((request, parser.should_keep_alive()))
        self._begin()
        if len(self._waiting) >= _MOST_PIPELINED and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._answer_all())
            self._all.tasks.add(self._task)
            self._task.add_done_callback(self._all.tasks.discard)

    # ---- answers -----------------------------------------------------------------------------------------------

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                request, keeps_alive = self._waiting.popleft()
                answer = await self._all.handler(request)
                keeps_alive = keeps_alive and not (self._all.is_closing and not self._waiting)
                self._write(answer, keeps_alive, is_head=request.method == "HEAD")
                if not self._drained.is_set():
                    await self._drained.wait()
                if not keeps_alive:
                    self._waiting.clear()
                    self._transport.close()
                elif self._is_paused and not self._waiting:
                    self._is_paused = False
                    self._transport.resume_reading()
        except Exception:
            _log.exception("an answer failed")
            self._transport.abort()
        finally:
            self._task = None

    def _write(self, answer: HttpAnswer, keeps_alive: bool, *, is_head: bool = False) -> None:
        head = (
            f"HTTP/1.1 {answer.status} {_REASONS.get(answer.status, 'Unknown')}\r\n"
            f"content-type: {answer.content_type}\r\ncontent-length: {len(answer.body)}\r\n"
        )
        if answer.request_id:
            head += f"x-request-id: {answer.request_id}\r\n"
        if not keeps_alive:
            head += "connection: close\r\n"
        self._transport.write(head.encode("latin-1") + b"\r\n" + (b"" if is_head else answer.body))

    def _refuse(self, status: int, message: str) -> None:
        if self._is_refused:
            return
        self._is_refused, self._parts, self._is_receiving = True, [], False
        self._write(HttpAnswer(status, self._all.refuse(message)), keeps_alive=False)
        self._transport.close()

    def close(self) -> None:
        """Close after what is written."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()
