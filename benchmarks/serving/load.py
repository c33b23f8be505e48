"""An HTTP load with little work of its own: each connection sends the same request again and again.

Without a rate each connection sends after each answer, as fast as the server answers. With a rate the requests have
fixed times, shared out among the connections; the latency of one that waits for its connection begins at its time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
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
    latencies: Sequence[float] = ()


class _Client(asyncio.Protocol):
    def __init__(self, request: bytes, latencies: list[float]) -> None:
        self._request, self._latencies = request, latencies
        self._buffer, self.errors, self.done = b"", 0, asyncio.get_running_loop().create_future()
        self._due = self._every = self._until = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def begin(self, first: float, every: float, until: float) -> None:
        self._due, self._every, self._until = first, every, until
        self._send_in_time(time.perf_counter())

    def _send_in_time(self, now: float) -> None:
        late, self._began = now - self._due, self._due
        self._due += self._every
        if self._every and late < 0:
            asyncio.get_running_loop().call_later(-late, self._send_now)
        elif self._every:
            self._transport.write(self._request)
        else:
            self._send_now()

    def _send_now(self) -> None:
        self._began = time.perf_counter()  # the timer has a resolution of 1 ms
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
        if max(now, self._due) < self._until:
            self._send_in_time(now)
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if max(time.perf_counter(), self._due) < self._until:
            self.errors += 1
        if not self.done.done():
            self.done.set_result(None)


async def _run(port: int, request: bytes, clients: int, seconds: float, rate: float) -> Measured:
    loop, latencies = asyncio.get_running_loop(), []  # type: ignore[var-annotated]
    made = [
        await loop.create_connection(lambda: _Client(request, latencies), "127.0.0.1", port) for _ in range(clients)
    ]
    began, every = time.perf_counter(), clients / rate if rate else 0.0
    for number, (_, client) in enumerate(made):
        client.begin(began + every * number / clients, every, began + seconds)
    await asyncio.gather(*(client.done for _, client in made))
    spent, ordered = time.perf_counter() - began, sorted(latencies)
    errors = sum(client.errors for _, client in made)
    milliseconds = [1e3 * latency for latency in ordered]
    p50, p99 = (milliseconds[int(len(ordered) * part)] for part in (0.5, 0.99))
    return Measured(len(ordered) / spent, p50, p99, errors, len(ordered), milliseconds)


def http_request(path: str, body: bytes, headers: str = "content-type: application/json") -> bytes:
    """The bytes of a POST request."""
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def measure(port: int, request: bytes, clients: int, seconds: float, rate: float = 0.0) -> Measured:
    """Put the load on a port of this machine; ``rate`` in requests per second, 0 for as fast as answers come."""
    return uvloop.run(_run(port, request, clients, seconds, rate))


def p99_of(found: Sequence[Measured]) -> float:
    """The 99th percentile of several loads' latencies in milliseconds."""
    together = sorted(latency for each in found for latency in each.latencies)
    return together[int(len(together) * 0.99)]
