"""Horovod's rendezvous serves the ranks of its run and nobody else on the machine."""

from __future__ import annotations

import http.client
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from stranger import attack, stranger

from saman.launcher.plan.placement import Placement, Process, Seat
from saman.launcher.rank.environment import horovod_variables
from saman.runs.records.rendezvous import RendezvousAddress

pytestmark = pytest.mark.ranks


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[RendezvousAddress]:
    file = tmp_path / "rendezvous.json"
    argv = [sys.executable, "-m", "saman.trainers.rendezvous", "--port-file", str(file), "--bind", "127.0.0.1", "n:2"]
    with subprocess.Popen(argv) as process:
        deadline = time.monotonic() + 60
        while (address := RendezvousAddress.read(file)) is None:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        yield address
        process.terminate()


def _ask(server: RendezvousAddress, method: str, key: str, body: bytes | None = None) -> tuple[int, bytes]:
    """What a rank asks, by the variables that it gets: Horovod asks http://ADDR:PORT/scope/key."""
    placement = Placement((Process(0, "n", 0, 0, 1),), 1)
    variables = horovod_variables(placement.processes[0], Seat.of(placement, 0), server)
    url = f"{variables['HOROVOD_GLOO_RENDEZVOUS_ADDR']}:{variables['HOROVOD_GLOO_RENDEZVOUS_PORT']}/global/{key}"
    where, _, path = url.partition("/")
    connection = http.client.HTTPConnection(where, timeout=5)
    connection.request(method, f"/{path}", body=body)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_stranger_neither_reads_nor_replaces_nor_deletes_the_address_of_a_rank(serving: RendezvousAddress) -> None:
    assert _ask(serving, "PUT", "0", b"127.0.0.1:5")[0] == 200
    with stranger(attack("meddle_with_rendezvous.py"), serving.host, serving.port) as statuses:
        assert statuses.split() == ["403"] * 9
    assert _ask(serving, "GET", "0") == (200, b"127.0.0.1:5")
    assert _ask(serving, "GET", "1")[0] == 404


def test_the_rendezvous_listens_on_the_address_that_ranks_are_told(serving: RendezvousAddress) -> None:
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.2", serving.port, timeout=2).connect()


def test_every_run_has_a_token_of_its_own(serving: RendezvousAddress) -> None:
    assert len(serving.token) >= 32 and serving.token not in Path(f"/proc/{serving.pid}/cmdline").read_text()
