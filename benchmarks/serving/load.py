"""A closed-loop HTTP load with little work of its own: each connection sends the same request after each answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import uvloop


@dataclass(frozen=True)
class Measured:
    """What the clients saw; latencies in milliseconds."""

    requests_per_second: float
    p50: float
    p99: float
    errors: int
    requests: int


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, latencies: list[float], until: float) -> None:
        self._request, self._latencies, self._until = request, latencies, until
        self._buffer, self.errors, self.done = b"", 0, asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._send()

    def _send(self) -> None:
        self._began = time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) < length:
            return
        now = time.perf_counter()
        self._latencies.append(now - self._began)
        self.errors += not self._buffer.startswith(b"HTTP/1.1 200")
        self._buffer = b""
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if time.perf_counter() < self._until:
            self.errors += 1
        if not self.done.done():
            self.done.set_result(None)


async def _run(port: int, request: bytes, clients: int, seconds: float) -> Measured:
    loop, latencies = asyncio.get_running_loop(), []  # type: ignore[var-annotated]
    began = time.perf_counter()
    made = [await loop.create_connection(lambda: _Client(request, latencies, began + seconds), "127.0.0.1", port)
            for _ in range(clients)]  # fmt: skip
    await asyncio.gather(*(client.done for _, client in made))
    spent, ordered = time.perf_counter() - began, sorted(latencies)
    errors = sum(client.errors for _, client in made)
    p50, p99 = (1e3 * ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
    return Measured(len(ordered) / spent, p50, p99, errors, len(ordered))


def http_request(path: str, body: bytes, headers: str = "content-type: application/json") -> bytes:
    """The bytes of a POST request."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def measure(port: int, request: bytes, clients: int, seconds: float) -> Measured:
    """Put the load on a port of this machine."""
    return uvloop.run(_run(port, request, clients, seconds))
