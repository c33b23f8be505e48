"""Transport over TCP: it needs no MPI, waits without using its core, and notices at once that a neighbour has ended.

Each pair of neighbours shares a connection, which the later stage opens. Both prove that they know the run's secret.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from saman.trainers.pipeline.network.caller import connect
from saman.trainers.pipeline.network.frames import MalformedFrame, read_frame, write_frame
from saman.trainers.pipeline.network.listener import Address, Listener
from saman.trainers.pipeline.transport import Mailbox

CONNECT_SECONDS = 60.0  # for all neighbours together


def meet(
    listener: Listener, secret: bytes, own: int, before: tuple[int, Address] | None, behind: int | None
) -> dict[int, socket.socket]:
    """Connect to the rank before and take the rank behind, both at once and within ``CONNECT_SECONDS``.

    Args:
        listener: Where this rank listens.
        secret: The run's secret.
        own: This rank.
        before: The rank of the stage before and its address; ``None`` for the first stage.
        behind: The rank of the stage behind; ``None`` for the last stage.

    Returns:
        The connections by rank.

    Raises:
        StageLost: A neighbour did not answer in time.
    """
    deadline = time.monotonic() + CONNECT_SECONDS
    waiting: dict[int, Future[socket.socket]] = {}
    with ThreadPoolExecutor(2) as pool:
        if before is not None:
            waiting[before[0]] = pool.submit(connect, before[1], secret, own, before[0], deadline)
        if behind is not None:
            waiting[behind] = pool.submit(listener.accept, secret, own, behind, deadline)
    return {rank: future.result() for rank, future in waiting.items()}


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection between pipeline stages of one machine."""
    listener, secret = Listener("127.0.0.1"), secrets.token_bytes(32)
    deadline = time.monotonic() + CONNECT_SECONDS
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(connect, listener.address, secret, 1, 0, deadline)
        here = listener.accept(secret, 0, 1, deadline)
    listener.close()
    return here, there.result()


class SocketTransport:
    """A ``Transport`` with a thread for each neighbour and direction, so that messages travel during computation."""

    def __init__(self, connections: Mapping[int, socket.socket]) -> None:
        self._mailbox = Mailbox()
        self._connections = dict(connections)
        self._outgoing: dict[int, queue.SimpleQueue[tuple[int, Sequence[np.ndarray]] | None]] = {}
        self._threads: list[threading.Thread] = []
        for stage, connection in self._connections.items():
            connection.settimeout(None)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._outgoing[stage] = queue.SimpleQueue()
            for work in (self._send_all, self._receive_all):
                thread = threading.Thread(target=self._told, args=(work, stage, connection), daemon=True)
                thread.start()
                self._threads.append(thread)

    def send(self, stage: int, tag: int, arrays: Sequence[np.ndarray]) -> None:
        """Queue a message; the thread of the neighbour sends it."""
        self._outgoing[stage].put((tag, arrays))

    def receive(self, stage: int, tag: int) -> list[np.ndarray]:
        """Wait for a message; raises ``StageLost`` if the neighbour has ended."""
        return self._mailbox.take(stage, tag)

    def close(self) -> None:
        """Send what is queued, for 10 seconds at most, then close the connections."""
        for stage, connection in self._connections.items():
            self._outgoing[stage].put(None)
            for thread in self._threads[::2]:
                thread.join(timeout=10)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _told(self, work: Callable[[int, socket.socket], None], stage: int, connection: socket.socket) -> None:
        """Whatever ends a thread reaches those who wait for its stage: none may wait for ever."""
        try:
            work(stage, connection)
        except OSError as error:
            self._mailbox.lose(stage, str(error))
        except MalformedFrame as error:
            self._mailbox.lose(stage, f"its connection carried {error}")
        except Exception as error:
            self._mailbox.lose(stage, f"{type(error).__name__}: {error}")

    def _send_all(self, stage: int, connection: socket.socket) -> None:
        while (message := self._outgoing[stage].get()) is not None:
            write_frame(connection, *message)

    def _receive_all(self, stage: int, connection: socket.socket) -> None:
        while True:
            tag, arrays = read_frame(connection)
            self._mailbox.put(stage, tag, arrays)
