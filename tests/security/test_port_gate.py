"""TensorFlow's gRPC port is reachable for the nodes of the run's workers and for no other address."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from stranger import attack, stranger

from saman.runs.ranks.interfaces import own_addresses
from saman.runs.tf_cluster.addresses import WorkerAddress, sources_of
from saman.runs.tf_cluster.port_gate import LOOPBACK, PortGate, gate_program

RUN_GRAPH = attack("run_graph.py")
OWN = [address for address in own_addresses() if ":" not in address]


def verdict(sources: list[str], packet: bytes) -> int:
    """What the program decides for an IP packet, by an interpreter of its few instructions."""
    accumulator, at, program = 0, 0, gate_program(sources)
    for _ in range(10_000):
        operation, yes, no, operand = program[at]
        at += 1
        offset = operand - 0xFFF00000
        if operation == 0x30:
            accumulator = packet[offset]
        elif operation == 0x20:
            accumulator = int.from_bytes(packet[offset : offset + 4], "big")
        elif operation == 0x74:
            accumulator >>= operand
        elif operation == 0x54:
            accumulator &= operand
        elif operation == 0x15:
            at += yes if accumulator == operand else no
        elif operation == 0x05:
            at += operand
        else:
            assert operation == 0x06
            return operand
    raise AssertionError("it does not end")


def packet(source: str) -> bytes:
    if ":" in source:
        return bytes([0x60, *bytes(7)]) + socket.inet_pton(socket.AF_INET6, source) + bytes(16)
    return bytes([0x45, *bytes(11)]) + socket.inet_aton(source) + bytes(4)


NODES = ["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", LOOPBACK]


@pytest.mark.parametrize(
    ("source", "passes"),
    [
        *((source, True) for source in ("10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "127.0.0.1", "127.9.9.9")),
        *((source, False) for source in ("10.0.0.3", "10.0.1.1", "128.0.0.1", "0.0.0.0", "fd00::3", "::1", "fd01::1")),
    ],
)
def test_the_nodes_of_the_run_pass_and_nobody_else(source: str, passes: bool) -> None:
    assert verdict(NODES, packet(source)) == passes
    assert verdict(list(reversed(NODES)), packet(source)) == passes
    assert verdict([], packet(source)) == 0


def test_a_thousand_nodes_are_told_apart() -> None:
    nodes = [f"10.0.{index // 250}.{index % 250}" for index in range(1000)]
    assert len(gate_program(nodes)) < 4096  # the kernel takes no longer program
    assert verdict(nodes, packet("10.0.3.249")) and not verdict(nodes, packet("10.0.3.250"))


def test_workers_on_one_host_use_the_loopback_and_others_every_address_of_theirs() -> None:
    here = [WorkerAddress("a", "a", 1, ("10.0.0.1",)), WorkerAddress("a", "a", 2, ("10.0.0.1",))]
    assert sources_of(here) == [LOOPBACK]
    there = [here[0], WorkerAddress("b", "b", 2, ("10.0.0.2", "192.168.0.2"))]
    assert sources_of(there) == ["10.0.0.1", "10.0.0.2", "192.168.0.2"]
    called = {"a": ["127.0.1.1"], "b": ["10.0.0.7"]}  # as this host resolves their names
    assert sources_of(there, called.__getitem__) == [
        "10.0.0.1", LOOPBACK, "::1", "10.0.0.2", "192.168.0.2", "10.0.0.7",
    ]  # fmt: skip


@pytest.fixture
def gate() -> Iterator[PortGate]:
    """A gate with a server behind it that answers, as TensorFlow's would."""
    standing = PortGate()
    standing.guard([LOOPBACK])
    family = socket.AF_INET6 if socket.has_ipv6 else socket.AF_INET
    server = socket.socket(family)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    server.bind(("", standing.port))
    server.listen(64)

    def answer() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.sendall(bytes(9))

    threading.Thread(target=answer, daemon=True).start()
    yield standing
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    standing.close()


@pytest.mark.skipif(not OWN, reason="this machine has the loopback only")
def test_what_connects_from_elsewhere_reaches_the_gate_and_not_the_server(
    gate: PortGate, capfd: pytest.CaptureFixture[str]
) -> None:
    assert gate.guarded
    with stranger(RUN_GRAPH, gate.port, "127.0.0.1", OWN[0]) as found:
        assert found.split() == ["open", "shut"]
    assert gate.refuses(OWN[0]) and not gate.refuses("127.0.0.1")
    said = capfd.readouterr().err
    assert said.count("refused a connection") == 1 and OWN[0] in said and "127.0.0.1" not in said


JOIN = """
import socket, sys
s = socket.socket(socket.AF_INET6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
try:
    s.bind(("::", int(sys.argv[1])))
    print("joined", flush=True)
except OSError:
    print("refused", flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="another user needs root")
def test_another_user_cannot_join_the_port(gate: PortGate) -> None:
    with stranger(JOIN, gate.port) as found:
        assert found == "refused"


REAL = """
import json, os, sys
from saman.configs.schemas.experiment import Experiment
from saman.runs.folder import RunFolder
from saman.trainers.strategies import multi_worker
from pathlib import Path
experiment = Experiment.model_validate({
    "name": "gate", "model": {"build": "mlp"}, "data": {"source": "digits"},
    "train": {"global_batch_size": 8, "strategy": "multi_worker"}, "resources": {"ranks_per_node": 1},
})
run = RunFolder.create(Path(sys.argv[1]), experiment)
strategy = multi_worker.start(experiment, run)
workers = json.loads(os.environ["TF_CONFIG"])["cluster"]["worker"]
notices = [event.facts["text"] for event in run.events() if event.kind == "notice"]
print(json.dumps([workers, notices]), flush=True)
sys.stdin.read()
"""


@pytest.mark.tensorflow
@pytest.mark.ranks
@pytest.mark.skipif(not OWN, reason="this machine has the loopback only")
def test_tensorflows_own_server_stands_behind_the_gate(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", REAL, str(tmp_path / "runs")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            workers, notices = json.loads(process.stdout.readline())
            host, port = workers[0].split(":")
            assert host == "127.0.0.1" and notices == []
            with stranger(RUN_GRAPH, port, OWN[0], "127.0.0.1") as found:
                assert found.split() == ["shut", "open"]
            (file,) = (tmp_path / "runs").rglob("control/ports-*/*.json")
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
        finally:
            process.kill()
