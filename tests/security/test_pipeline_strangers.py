"""Strangers on a pipeline's port neither pass for a stage nor delay it, and a stage listens on its own network only."""

from __future__ import annotations

import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from stranger import attack, stranger

from saman.configs.errors import EnvironmentLack
from saman.trainers.pipeline.network.caller import connect
from saman.trainers.pipeline.network.handshake import ANSWER_BYTES, HELLO_BYTES, PROOF_BYTES, Role, hello, proof
from saman.trainers.pipeline.network.listener import Address, Listener, address_to_bind
from saman.trainers.pipeline.sockets import SocketTransport, connected_pair
from saman.trainers.pipeline.transport import StageLost

SECRET = secrets.token_bytes(32)
SIT, ECHO, FLOOD = attack("sit_on_port.py"), attack("echo.py"), attack("flood_port.py")


def soon(seconds: float) -> float:
    return time.monotonic() + seconds


def call(address: Address, secret: bytes = SECRET, seconds: float = 5.0) -> socket.socket:
    """Rank 1 calls rank 0."""
    return connect(address, secret, 1, 0, soon(seconds))


@pytest.fixture
def listener() -> Any:
    """Rank 0's listener."""
    listening = Listener("127.0.0.1")
    yield listening
    listening.close()


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    result = work()
    return time.monotonic() - began, result


def exchange(first: socket.socket, other: socket.socket) -> bool:
    first.sendall(b"activation")
    other.settimeout(5)
    return other.recv(10) == b"activation"


def test_a_late_listener_takes_no_connection_that_its_caller_has_abandoned(listener: Listener) -> None:
    where = ("127.0.0.1", listener.address.port)
    abandoned = socket.create_connection(where)
    abandoned.sendall(hello(1, 0))
    abandoned.close()
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(call, listener.address)
        time.sleep(0.5)
        here = listener.accept(SECRET, 0, 1, soon(5))
        assert exchange(here, there.result())


def test_idle_and_slow_strangers_delay_no_stage(listener: Listener) -> None:
    port = listener.address.port
    with stranger(SIT, "127.0.0.1", port, 6), ThreadPoolExecutor(1) as pool:
        there = pool.submit(call, listener.address)
        seconds, here = timed(lambda: listener.accept(SECRET, 0, 1, soon(5)))
        assert exchange(here, there.result())
    assert seconds < 2.0


def test_strangers_do_not_hold_a_listener_beyond_its_deadline(listener: Listener) -> None:
    with stranger(SIT, "127.0.0.1", listener.address.port, 6):
        began = time.monotonic()
        with pytest.raises(StageLost):
            listener.accept(SECRET, 0, 1, soon(1.5))
        assert time.monotonic() - began < 3.0


def test_a_flood_of_connections_keeps_no_stage_out(listener: Listener) -> None:
    with stranger(FLOOD, "127.0.0.1", listener.address.port), ThreadPoolExecutor(1) as pool:
        time.sleep(0.5)
        there = pool.submit(call, listener.address, SECRET, 20)
        here = listener.accept(SECRET, 0, 1, soon(20))
        assert exchange(here, there.result())


def test_a_listener_that_repeats_everything_is_not_believed() -> None:
    with stranger(ECHO, "127.0.0.1", 0) as port, pytest.raises(StageLost):
        call(Address(("127.0.0.1",), int(port)), seconds=1.5)


def test_a_caller_without_the_secret_is_refused_and_the_stage_taken(listener: Listener) -> None:
    taken: list[bytes] = []

    def pretend() -> None:
        """Knows the protocol and the ranks, repeats the listener's own proof, but lacks the secret."""
        with socket.create_connection(("127.0.0.1", listener.address.port)) as connection:
            connection.sendall(hello(1, 0))
            answer = connection.recv(ANSWER_BYTES)
            connection.sendall(answer[-PROOF_BYTES:])
            connection.settimeout(5)
            taken.append(connection.recv(PROOF_BYTES))

    with ThreadPoolExecutor(2) as pool:
        attempt = pool.submit(pretend)
        waiting = pool.submit(listener.accept, SECRET, 0, 1, soon(8))
        attempt.result()
        assert taken == [b""] and not waiting.done()
        there = call(listener.address)
        assert exchange(waiting.result(), there)


def test_stages_of_other_runs_do_not_meet(listener: Listener) -> None:
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(call, listener.address, secrets.token_bytes(32), 1.5)
        with pytest.raises(StageLost):
            listener.accept(SECRET, 0, 1, soon(1.5))
        with pytest.raises(StageLost):
            there.result()


def test_another_rank_with_the_secret_is_not_taken_for_the_neighbour(listener: Listener) -> None:
    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(connect, listener.address, SECRET, 2, 0, soon(1.0))
        with pytest.raises(StageLost):
            listener.accept(SECRET, 0, 1, soon(1.0))
        with pytest.raises(StageLost):
            there.result()


def test_a_proof_holds_in_its_role_and_for_its_nonces_only() -> None:
    greeting, nonce = hello(1, 0), secrets.token_bytes(32)
    made = {proof(SECRET, role, greeting, nonce) for role in Role}
    made |= {proof(SECRET, Role.CALLER, hello(1, 0), nonce), proof(SECRET, Role.CALLER, greeting, bytes(32))}
    assert len(made) == 5
    assert SECRET not in greeting and len(greeting) == HELLO_BYTES


def test_addresses_that_lead_nowhere_are_tried_at_the_same_time(listener: Listener) -> None:
    port = listener.address.port
    silent = [socket.create_server((f"127.0.0.{end}", port), backlog=8) for end in (2, 3, 4)]
    hosts = (*(server.getsockname()[0] for server in silent), "host.invalid", "127.0.0.1")
    with ThreadPoolExecutor(1) as pool:
        here = pool.submit(listener.accept, SECRET, 0, 1, soon(8))
        seconds, there = timed(lambda: call(Address(hosts, port), seconds=8))
        assert exchange(here.result(), there)
    assert seconds < 3.0
    for server in silent:
        server.close()


def test_an_impostor_at_the_first_address_does_not_hold_the_caller(listener: Listener) -> None:
    """It answers like a listener, but cannot prove the secret, and then says nothing more."""
    impostor = socket.create_server(("127.0.0.2", listener.address.port))

    def answer() -> None:
        connection, _ = impostor.accept()
        connection.sendall(secrets.token_bytes(ANSWER_BYTES))
        connection.recv(HELLO_BYTES)
        time.sleep(5)

    threading.Thread(target=answer, daemon=True).start()
    with ThreadPoolExecutor(1) as pool:
        time.sleep(0.1)
        there = pool.submit(call, Address(("127.0.0.2", "127.0.0.1"), listener.address.port), SECRET, 8)
        time.sleep(0.5)  # the impostor is first
        seconds, here = timed(lambda: listener.accept(SECRET, 0, 1, soon(8)))
        assert exchange(here, there.result())
    assert seconds < 2.0
    impostor.close()


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("!qI", 0, 1) + struct.pack("!16sI", b"no such dtype", 1) + struct.pack("!Q", 1),
        struct.pack("!qI", 0, 1) + struct.pack("!16sI", b"float32", 2) + struct.pack("!QQ", 1 << 62, 1 << 62),
        struct.pack("!qI", 0, 1) + struct.pack("!16sI", b"\xff" * 16, 1) + struct.pack("!Q", 1),
        struct.pack("!qI", 0, 1) + struct.pack("!16sI", b"object", 1) + struct.pack("!Q", 1),
        b"\xff" * 64,
    ],
    ids=["dtype", "size", "text", "objects", "noise"],
)
def test_a_malformed_frame_is_told_to_who_waits_for_the_stage(frame: bytes) -> None:
    here, there = connected_pair()
    transport = SocketTransport({1: here})
    found: list[BaseException] = []

    def wait() -> None:
        try:
            transport.receive(1, 0)
        except BaseException as error:
            found.append(error)

    waiting = threading.Thread(target=wait, daemon=True)
    waiting.start()
    there.sendall(frame)
    waiting.join(timeout=5)
    assert not waiting.is_alive() and isinstance(found[0], StageLost)
    transport.close()
    there.close()


def test_whole_frames_arrive_as_they_were_sent() -> None:
    here, there = connected_pair()
    sender, receiver = SocketTransport({1: here}), SocketTransport({0: there})
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 4), np.int64), np.float64(3.5).reshape(())]
    sender.send(1, 7, arrays)
    for sent, got in zip(arrays, receiver.receive(0, 7), strict=True):
        assert sent.dtype == got.dtype and sent.shape == got.shape and np.array_equal(sent, got)
    sender.close()
    receiver.close()


def test_a_stage_listens_on_the_address_of_its_network_only() -> None:
    listening = Listener(address_to_bind({"SAMAN_ADDRESS": "127.0.0.1", "GLOO_SOCKET_IFNAME": "lo"}))
    assert listening.address.hosts == ("127.0.0.1",)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", listening.address.port), timeout=2)
    socket.create_connection(("127.0.0.1", listening.address.port), timeout=2).close()
    listening.close()


def test_a_network_interface_without_an_address_is_refused_with_its_name() -> None:
    with pytest.raises(EnvironmentLack) as refused:
        address_to_bind({"GLOO_SOCKET_IFNAME": "ib7,eth0"})
    assert "ib7" in refused.value.problem and refused.value.where == "network.interface"
