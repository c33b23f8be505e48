"""How a stage calls the stage before it: at all its addresses at once, and only a listener that proves the secret."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from dataclasses import dataclass

from saman.trainers.pipeline.network.handshake import (
    ANSWER_BYTES,
    NONCE_BYTES,
    PROOF_BYTES,
    Role,
    hello,
    proof,
    proves,
)
from saman.trainers.pipeline.network.listener import Address
from saman.trainers.pipeline.transport import StageLost

AGAIN_SECONDS = 0.2  # between two calls to the same address


def connect(address: Address, secret: bytes, own: int, peer: int, deadline: float) -> socket.socket:
    """Connect to rank ``peer`` over the first of its addresses where it proves that it knows the secret.

    Args:
        address: The host names, addresses and port of the other stage.
        secret: The run's secret.
        own: This rank.
        peer: The rank to call.
        deadline: When to give up (monotonic seconds).

    Raises:
        StageLost: The rank did not answer in time.
    """
    return _Call(address, secret, own, peer, deadline).complete()


@dataclass(frozen=True)
class _Proven:
    """A listener that proved the secret and waits for the choice."""

    host: str
    connection: socket.socket
    greeting: bytes
    nonce: bytes


class _Call:
    """A call to a stage, with a thread for each of its addresses: a name that leads nowhere holds up no other."""

    def __init__(self, address: Address, secret: bytes, own: int, peer: int, deadline: float) -> None:
        self._secret, self._own, self._peer, self._deadline = secret, own, peer, deadline
        self._port, self._hosts = address.port, list(address.hosts)
        if socket.gethostname() == self._hosts[0]:
            self._hosts.insert(0, "127.0.0.1")
        self._proven: queue.SimpleQueue[_Proven] = queue.SimpleQueue()
        self._problems: dict[str, str] = {}
        self._over = threading.Event()

    def complete(self) -> socket.socket:
        """Call every address until the stage has taken a connection."""
        try:
            for host in self._hosts:
                self._try(host)
            while (left := self._deadline - time.monotonic()) > 0:
                try:
                    found = self._proven.get(timeout=left)
                except queue.Empty:
                    break
                if self._choose(found):
                    return found.connection
                self._try(found.host)
        finally:
            self._over.set()
        why = "; ".join(f"{host}: {problem}" for host, problem in self._problems.items()) or "no answer"
        raise StageLost(f"rank {self._peer} cannot be reached at port {self._port} ({why})")

    def _choose(self, found: _Proven) -> bool:
        """Choose this connection; whether the listener has taken it."""
        try:
            found.connection.settimeout(5.0)
            found.connection.sendall(proof(self._secret, Role.CALLER, found.greeting, found.nonce))
            taken = receive_until(found.connection, PROOF_BYTES, self._deadline)
            if proves(taken, self._secret, Role.TAKEN, found.greeting, found.nonce):
                return True
            self._problems[found.host] = "it did not confirm the choice"
        except OSError as error:
            self._problems[found.host] = str(error)
        found.connection.close()
        return False

    def _try(self, host: str) -> None:
        threading.Thread(target=self._keep_calling, args=(host,), daemon=True).start()

    def _keep_calling(self, host: str) -> None:
        while not self._over.is_set() and time.monotonic() < self._deadline:
            try:
                found = self._call(host)
            except OSError as error:
                self._problems[host] = str(error)
                self._over.wait(AGAIN_SECONDS)
                continue
            if self._over.is_set():
                found.connection.close()
            else:
                self._proven.put(found)
            return

    def _call(self, host: str) -> _Proven:
        left = max(0.1, self._deadline - time.monotonic())
        connection = socket.create_connection((host, self._port), timeout=left)
        try:
            greeting = hello(self._own, self._peer)
            connection.sendall(greeting)
            answer = receive_until(connection, ANSWER_BYTES, self._deadline)
            nonce = answer[:NONCE_BYTES]
            if not proves(answer[NONCE_BYTES:], self._secret, Role.LISTENER, greeting, nonce):
                raise ConnectionError("something else listens there")
        except BaseException:
            with contextlib.suppress(OSError):
                connection.close()
            raise
        return _Proven(host, connection, greeting, nonce)


def receive_until(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Receive ``size`` bytes, however slowly they come, but not beyond ``deadline`` (monotonic seconds).

    Raises:
        TimeoutError: The time is over.
        ConnectionError: The other end closed the connection.
    """
    data = b""
    while len(data) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("no complete answer in time")
        connection.settimeout(left)
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError("it closed the connection")
        data += more
    return data
