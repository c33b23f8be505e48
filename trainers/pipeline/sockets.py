"""Transport over TCP: it needs no MPI, waits without using its core, and notices at once that a neighbour has ended.

Each pair of neighbours shares a connection, which the later stage opens. Both ends authenticate with the run's secret.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saman.trainers.pipeline.transport import Mailbox, StageLost

_HEAD = struct.Struct("!qI")  # tag, number of arrays
_ARRAY = struct.Struct("!16sI")  # dtype, number of axes; the sizes follow as uint64
_HELLO = struct.Struct("!32sI")  # secret, stage
CONNECT_SECONDS = 60.0
ADDRESS_BYTES = 1024  # of an address as bytes, padded


@dataclass(frozen=True)
class Address:
    """Where a stage listens: its host's names and addresses, best first, and the port."""

    hosts: tuple[str, ...]
    port: int

    def to_bytes(self) -> bytes:
        """Return the address as ``ADDRESS_BYTES`` bytes."""
        return json.dumps([self.hosts, self.port]).encode().ljust(ADDRESS_BYTES)[:ADDRESS_BYTES]

    @classmethod
    def from_bytes(cls, data: bytes) -> Address:
        """Return the address that ``to_bytes`` wrote."""
        hosts, port = json.loads(data)
        return cls(tuple(hosts), port)


class Listener:
    """Listens on a free port, before the neighbours learn its number."""

    def __init__(self, backlog: int = 4) -> None:
        self._socket = socket.create_server(("", 0), backlog=backlog)

    @property
    def address(self) -> Address:
        """The address for the neighbours."""
        name = socket.gethostname()
        hosts = [name, socket.getfqdn()]
        with contextlib.suppress(OSError):
            hosts += [str(found[4][0]) for found in socket.getaddrinfo(name, None, socket.AF_INET)]
        return Address(tuple(dict.fromkeys(hosts)), self._socket.getsockname()[1])

    def accept(self, secret: bytes, stage: int) -> socket.socket:
        """Wait for the connection of ``stage``, and close any other.

        Raises:
            StageLost: The stage did not connect within ``CONNECT_SECONDS``.
        """
        deadline = time.monotonic() + CONNECT_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            self._socket.settimeout(left)
            try:
                connection, _ = self._socket.accept()
            except TimeoutError:
                break
            connection.settimeout(5.0)
            with contextlib.suppress(OSError):
                received, number = _HELLO.unpack(_receive_exactly(connection, _HELLO.size))
                if hmac.compare_digest(received, secret) and number == stage:
                    connection.sendall(secret)
                    return connection
            connection.close()
        raise StageLost(f"stage {stage} did not connect within {CONNECT_SECONDS:.0f} s")

    def close(self) -> None:
        """Accept no more connections."""
        self._socket.close()


def connect(address: Address, secret: bytes, own_stage: int, stage: int) -> socket.socket:
    """Connect to a stage, over the first host name or address that answers with the secret.

    Args:
        address: The host names, addresses and port of the other stage.
        secret: The bytes that both sides must send.
        own_stage: This stage.
        stage: The other stage, for the error.

    Raises:
        StageLost: No address answered within ``CONNECT_SECONDS``.
    """
    deadline = time.monotonic() + CONNECT_SECONDS
    problem: Exception | None = None
    hosts = list(address.hosts)
    if socket.gethostname() == address.hosts[0]:
        hosts.insert(0, "127.0.0.1")
    while time.monotonic() < deadline:
        for host in hosts:
            try:
                connection = socket.create_connection((host, address.port), timeout=5.0)
                connection.sendall(_HELLO.pack(secret, own_stage))
                if hmac.compare_digest(_receive_exactly(connection, len(secret)), secret):
                    return connection
                connection.close()
            except OSError as error:
                problem = error
        time.sleep(0.2)
    raise StageLost(f"stage {stage} cannot be reached at {', '.join(hosts)} port {address.port}: {problem}")


def connected_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection within this machine."""
    listener, secret = Listener(), b"0" * 32
    there = socket.create_connection(("127.0.0.1", listener.address.port))
    there.sendall(_HELLO.pack(secret, 1))
    here = listener.accept(secret, 1)
    listener.close()
    _receive_exactly(there, len(secret))
    return here, there


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
                thread = threading.Thread(target=work, args=(stage, connection), daemon=True)
                thread.start()
                self._threads.append(thread)

    def send(self, stage: int, tag: int, arrays: Sequence[np.ndarray]) -> None:
        self._outgoing[stage].put((tag, arrays))

    def receive(self, stage: int, tag: int) -> list[np.ndarray]:
        return self._mailbox.take(stage, tag)

    def close(self) -> None:
        for stage, connection in self._connections.items():
            self._outgoing[stage].put(None)
            for thread in self._threads[::2]:
                thread.join(timeout=10)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _send_all(self, stage: int, connection: socket.socket) -> None:
        while (message := self._outgoing[stage].get()) is not None:
            try:
                _write(connection, *message)
            except OSError as error:
                self._mailbox.lose(stage, str(error))
                return

    def _receive_all(self, stage: int, connection: socket.socket) -> None:
        try:
            while True:
                tag, arrays = _read(connection)
                self._mailbox.put(stage, tag, arrays)
        except OSError as error:
            self._mailbox.lose(stage, str(error))


def _write(connection: socket.socket, tag: int, arrays: Sequence[np.ndarray]) -> None:
    head = [_HEAD.pack(tag, len(arrays))]
    for array in arrays:
        head.append(_ARRAY.pack(array.dtype.name.encode(), array.ndim))
        head.append(struct.pack(f"!{array.ndim}Q", *array.shape))
    connection.sendall(b"".join(head))
    for array in arrays:
        if array.size:
            connection.sendall(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _read(connection: socket.socket) -> tuple[int, list[np.ndarray]]:
    tag, count = _HEAD.unpack(_receive_exactly(connection, _HEAD.size))
    specs = []
    for _ in range(count):
        name, axes = _ARRAY.unpack(_receive_exactly(connection, _ARRAY.size))
        shape = struct.unpack(f"!{axes}Q", _receive_exactly(connection, 8 * axes))
        specs.append((np.dtype(name.rstrip(b"\0").decode()), shape))
    arrays = []
    for dtype, shape in specs:
        array = empty_array(shape, dtype)
        if array.size:
            _fill(connection, array.reshape(-1).view(np.uint8).data)
        arrays.append(array)
    return tag, arrays


def empty_array(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Return an uninitialised array at a multiple of 64 bytes, which TensorFlow adopts without a copy."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size].view(dtype).reshape(shape)


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray(size)
    _fill(connection, memoryview(data))
    return bytes(data)


def _fill(connection: socket.socket, view: memoryview[int]) -> None:
    while view:
        count = connection.recv_into(view)
        if count == 0:
            raise ConnectionError("the neighbour closed the connection")
        view = view[count:]
