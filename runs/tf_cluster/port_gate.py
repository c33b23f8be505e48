"""Who may connect to TensorFlow's gRPC server: the nodes of the run's workers, and no other address.

TensorFlow's server listens on every address of the host, takes everybody's graph and offers no credentials; neither
its bind address nor its authentication can be set (``GrpcServer`` fixes ``0.0.0.0`` and insecure credentials). But it
joins a port that is bound already (TF_GRPC_REUSE_PORT), and the kernel then asks a program of the first socket which
of both takes a new connection (SO_ATTACH_REUSEPORT_CBPF, socket(7)). So the port is safe before TensorFlow opens it:
connections from elsewhere reach the gate, which closes them.

An address says nothing about the user: where a worker's node is shared, another user there passes the gate.
"""

from __future__ import annotations

import contextlib
import ctypes
import ipaddress
import socket
import struct
import sys
import threading
from collections.abc import Iterable, Sequence

_SO_ATTACH_REUSEPORT_CBPF = 51
_LINGER_RESET = struct.pack("ii", 1, 0)
# Classic BPF (linux/filter.h): operations, and the offset of the network header.
_LOAD_WORD, _LOAD_BYTE, _SHIFT_RIGHT, _AND, _JUMP_EQUAL, _JUMP, _RETURN = 0x20, 0x30, 0x74, 0x54, 0x15, 0x05, 0x06
_NETWORK_HEADER = 0xFFF00000
_IPV4_SOURCE, _IPV6_SOURCE = _NETWORK_HEADER + 12, _NETWORK_HEADER + 8
_GATE, _SERVER = 0, 1  # in the order in which they began to listen
ANSWER_SECONDS = 2.0
_HTTP2_BEGIN = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04" + bytes(5)  # and empty settings
MOST_SAID = 5  # addresses whose connections are refused
REFUSED = "saman: refused a connection from {address} to TensorFlow's port {port}: no worker has this address"
LOOPBACK = "127.0.0.0/8"

Instruction = tuple[int, int, int, int]  # operation, jump if true, jump if false, operand


class PortGate:
    """A free port that only TensorFlow's server of this process can share; ``guarded`` once strangers are kept out."""

    def __init__(self) -> None:
        self._socket = _bound_everywhere()
        self.port = int(self._socket.getsockname()[1])
        self.guarded = False
        self._said: set[str] = set()  # addresses whose refusal is no news

    def guard(self, sources: Iterable[str]) -> None:
        """Let connections from ``sources`` (addresses or networks) pass, and close all others.

        Call it before TensorFlow listens. Kernels before 4.6 have no such program: ``guarded`` then stays false.
        """
        self._socket.listen(64)
        sources = tuple(sources)
        threading.Thread(target=self._refuse_strangers, args=(sources,), name="port-gate", daemon=True).start()
        instructions = gate_program(sources)
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *instruction) for instruction in instructions))
        program = struct.pack("HL", len(instructions), ctypes.addressof(code))
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, program)
            self.guarded = True

    def refuses(self, address: str) -> bool:
        """Whether a connection to ``address`` of this host, whose source is the same address, reaches no server."""
        self._said.add(address)
        try:
            with socket.create_connection((address, self.port), timeout=ANSWER_SECONDS) as stranger:
                stranger.sendall(_HTTP2_BEGIN)
                return not stranger.recv(1)
        except OSError:
            return True

    def close(self) -> None:
        """Give the port up; if TensorFlow listens there, everybody can reach it from then on."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._socket.close()

    def _refuse_strangers(self, sources: Sequence[str]) -> None:
        """Close every connection; say whence they came, a few times: a worker behind NAT would be among them."""
        networks = [ipaddress.ip_network(source) for source in sources]
        with contextlib.suppress(OSError):
            while True:
                connection, peer = self._socket.accept()
                address = ipaddress.ip_address(str(peer[0]).removeprefix("::ffff:").partition("%")[0])
                # Workers reach the gate too, until TensorFlow listens.
                strange = not any(address in network for network in networks)
                if strange and str(address) not in self._said and len(self._said) < MOST_SAID:
                    self._said.add(str(address))
                    print(REFUSED.format(address=address, port=self.port), file=sys.stderr, flush=True)
                with contextlib.suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESET)
                connection.close()


def gate_program(sources: Iterable[str]) -> list[Instruction]:
    """Return the program that chooses the server for packets from ``sources`` and the gate for all others. Pure.

    Args:
        sources: IPv4 addresses and networks, and IPv6 addresses.
    """
    networks = [ipaddress.ip_network(source) for source in dict.fromkeys(sources)]
    four = [(_LOAD_WORD, 0, 0, _IPV4_SOURCE)]
    six: list[Instruction] = []
    for network in networks:
        if isinstance(network, ipaddress.IPv4Network):
            four += _from_ipv4(network)
        else:
            six += _from_ipv6(network)
    refuse = (_RETURN, 0, 0, _GATE)
    four.append(refuse)
    return [
        (_LOAD_BYTE, 0, 0, _NETWORK_HEADER),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, 4),
        (_JUMP, 0, 0, len(four)),
        *four,
        *six,
        refuse,
    ]


def _from_ipv4(network: ipaddress.IPv4Network) -> list[Instruction]:
    found = [(_JUMP_EQUAL, 0, 1, int(network.network_address)), (_RETURN, 0, 0, _SERVER)]
    if network.prefixlen == 32:
        return found
    load = (_LOAD_WORD, 0, 0, _IPV4_SOURCE)
    return [(_AND, 0, 0, int(network.netmask)), *found, load]  # the next comparison needs the whole address


def _from_ipv6(network: ipaddress.IPv6Network) -> list[Instruction]:
    words = struct.unpack("!4I", network.network_address.packed)
    found: list[Instruction] = []
    for index, word in enumerate(words):
        left = 2 * (len(words) - index - 1) + 1
        found += [(_LOAD_WORD, 0, 0, _IPV6_SOURCE + 4 * index), (_JUMP_EQUAL, 0, left, word)]
    return [*found, (_RETURN, 0, 0, _SERVER)]


def _bound_everywhere() -> socket.socket:
    """Bind a free port on every address, as TensorFlow's server will: the kernel groups equal sockets only."""
    family, everywhere = (socket.AF_INET6, "::") if _has_ipv6() else (socket.AF_INET, "")
    bound = socket.socket(family, socket.SOCK_STREAM)
    if family == socket.AF_INET6:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    bound.bind((everywhere, 0))
    return bound


def _has_ipv6() -> bool:
    """Whether gRPC listens with IPv6: it tries the loopback."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
