"""Where a stage listens, and how it takes the connection of its neighbour among those of strangers."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import selectors
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from saman.configs.errors import EnvironmentLack
from saman.runs import variables
from saman.trainers.pipeline.network.handshake import (
    HELLO_BYTES,
    NONCE_BYTES,
    PROOF_BYTES,
    Role,
    is_hello,
    proof,
    proves,
)
from saman.trainers.pipeline.transport import StageLost

CALLER_SECONDS = 10.0  # for a caller to complete the handshake
MOST_CALLERS = 64  # unconfirmed at a time; another caller replaces the oldest
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


def address_to_bind(environ: Mapping[str, str]) -> str:
    """Return the address where a stage listens in the run's network; empty for every address, if no network is named.

    Raises:
        EnvironmentLack: ``network.interface`` has no IPv4 address on this node.
    """
    address = environ.get(variables.ADDRESS, "")
    interface = environ.get("GLOO_SOCKET_IFNAME", "").split(",")[0]
    if interface and not address:
        raise EnvironmentLack(
            f"the interface {interface} has no IPv4 address on {socket.gethostname()}",
            where="network.interface",
            remedy="`ip -4 addr` on the node shows those that have",
        )
    return address


class Listener:
    """Listens on a free port, before the neighbours learn its number.

    Args:
        host: The address to listen on; empty for every address of this host.
    """

    def __init__(self, host: str = "") -> None:
        self._host = host
        self._socket = socket.create_server((host, 0), backlog=MOST_CALLERS)
        self._socket.setblocking(False)

    @property
    def address(self) -> Address:
        """The address for the neighbours: the bound address, or every name and address of this host."""
        port = int(self._socket.getsockname()[1])
        if self._host:
            return Address((self._host,), port)
        name = socket.gethostname()
        hosts = [name, socket.getfqdn()]
        with contextlib.suppress(OSError):
            hosts += [str(found[4][0]) for found in socket.getaddrinfo(name, None, socket.AF_INET)]
        return Address(tuple(dict.fromkeys(hosts)), port)

    def accept(self, secret: bytes, own: int, peer: int, deadline: float) -> socket.socket:
        """Wait for the connection of rank ``peer``; callers shake hands at the same time, so none holds up another.

        Args:
            secret: The run's secret.
            own: This rank.
            peer: The rank that calls.
            deadline: When to give up (monotonic seconds).

        Raises:
            StageLost: The rank did not connect in time.
        """
        began = time.monotonic()
        with _Door(self._socket, secret, own, peer) as door:
            while (left := deadline - time.monotonic()) > 0:
                taken = door.look(min(left, 1.0))
                if taken is not None:
                    return taken
        seconds = time.monotonic() - began
        raise StageLost(f"rank {peer} did not connect within {seconds:.0f} s ({door.refused} others were refused)")

    def close(self) -> None:
        """Accept no more connections."""
        self._socket.close()


@dataclass
class _Caller:
    """A connection that has not proved anything yet; ``until`` is when it is dropped (monotonic seconds)."""

    connection: socket.socket
    until: float = field(default_factory=lambda: time.monotonic() + CALLER_SECONDS)
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(NONCE_BYTES))
    received: bytes = b""


class _Door:
    """Shakes hands with every caller until the wanted one is taken; then closes the others."""

    def __init__(self, listening: socket.socket, secret: bytes, own: int, peer: int) -> None:
        self._listening, self._secret, self._own, self._peer = listening, secret, own, peer
        self._selector = selectors.DefaultSelector()
        self._callers: dict[int, _Caller] = {}
        self.refused = 0

    def __enter__(self) -> _Door:
        self._selector.register(self._listening, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        for caller in list(self._callers.values()):
            self._forget(caller).close()
        self._selector.close()

    def look(self, seconds: float) -> socket.socket | None:
        """Serve the callers for at most ``seconds``; returns the connection of the peer once it is confirmed."""
        for key, _ in self._selector.select(seconds):
            if key.fileobj is self._listening:
                self._admit()
            elif (caller := self._callers.get(key.fd)) is not None and self._advance(caller):
                return self._forget(caller)
        now = time.monotonic()
        for caller in [caller for caller in self._callers.values() if caller.until < now]:
            self._refuse(caller)
        return None

    def _admit(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listening.accept()
            connection.setblocking(False)
            if len(self._callers) >= MOST_CALLERS:
                self._refuse(next(iter(self._callers.values())))
            self._callers[connection.fileno()] = _Caller(connection)
            self._selector.register(connection, selectors.EVENT_READ)

    def _advance(self, caller: _Caller) -> bool:
        """Take what a caller sent; whether it is the peer, with its proof given and confirmed."""
        whole = HELLO_BYTES + PROOF_BYTES
        try:
            data = caller.connection.recv(whole - len(caller.received))
            before, caller.received = len(caller.received), caller.received + data
            greeting = caller.received[:HELLO_BYTES]
            if not data:
                self._refuse(caller)
            elif before < HELLO_BYTES <= len(caller.received):
                self._answer(caller, greeting)
            if len(caller.received) < whole:
                return False
            if proves(caller.received[HELLO_BYTES:], self._secret, Role.CALLER, greeting, caller.nonce):
                caller.connection.send(proof(self._secret, Role.TAKEN, greeting, caller.nonce))
                return True
            self._refuse(caller)
        except BlockingIOError:
            pass
        except OSError:
            self._refuse(caller)
        return False

    def _answer(self, caller: _Caller, greeting: bytes) -> None:
        if is_hello(greeting, self._peer, self._own):
            caller.connection.send(caller.nonce + proof(self._secret, Role.LISTENER, greeting, caller.nonce))
        else:
            self._refuse(caller)

    def _refuse(self, caller: _Caller) -> None:
        if caller.connection.fileno() in self._callers:
            self.refused += 1
            self._forget(caller).close()

    def _forget(self, caller: _Caller) -> socket.socket:
        self._selector.unregister(caller.connection)
        del self._callers[caller.connection.fileno()]
        caller.connection.setblocking(True)
        return caller.connection


def listen_in_network(environ: Mapping[str, str] = os.environ) -> Listener:
    """Listen as a stage on this node's address in the run's network (``network.interface``; else the loopback)."""
    return Listener(address_to_bind(environ))
