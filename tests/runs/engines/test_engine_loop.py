"""The loop of an engine joins requests, honours deadlines, and keeps requests from failing each other."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from saman.runs.engines import frames
from saman.runs.engines.batches import Arrays
from saman.runs.engines.frames import Frame, FrameReader
from saman.runs.engines.interface import BatchLimits, EngineError
from saman.runs.engines.loop import EngineLoop


class Doubler:
    """Doubles its input; refuses negative numbers, as a model refuses a bad request."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.has_begun = threading.Event()

    def run(self, signature: str, inputs: Arrays) -> Arrays:
        self.has_begun.set()
        self.may_go.wait(30)
        self.rows.append(len(inputs["x"]))
        if (inputs["x"] < 0).any():
            raise EngineError(frames.INVALID_ARGUMENT, "negative")
        return {"y": inputs["x"] * 2}


class Client:
    def __init__(self, path: Path) -> None:
        self.channel = socket.socket(socket.AF_UNIX)
        self.channel.connect(str(path))
        self.channel.settimeout(30)
        self.reader, self.found = FrameReader(), {}  # type: ignore[var-annotated]

    def send(self, number: int, value: float, deadline: float = 0.0) -> None:
        inputs = {"x": np.full((1, 1), value)}
        self.channel.sendall(frames.encode(Frame(number, "s", inputs, deadline=deadline)))

    def answer(self, number: int) -> Frame:
        while number not in self.found:
            for frame in self.reader.feed(self.channel.recv(1 << 16)):
                self.found[frame.number] = frame
        return self.found[number]  # type: ignore[no-any-return]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Doubler, Client]]:
    engine, listener = Doubler(), socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen()
    loop = EngineLoop(engine, listener, BatchLimits(rows=4))
    thread = threading.Thread(target=loop.run)
    thread.start()
    yield engine, Client(tmp_path / "s")
    loop.stop()
    thread.join(30)
    assert not thread.is_alive()
    listener.close()


def hold_back(engine: Doubler, client: Client) -> None:
    """Have the engine compute request 0, while others arrive."""
    engine.may_go.clear()
    client.send(0, 0.0)
    assert engine.has_begun.wait(30)


def test_requests_that_wait_are_computed_together_up_to_the_limit(running: tuple[Doubler, Client]) -> None:
    engine, client = running
    hold_back(engine, client)
    for number in range(1, 7):
        client.send(number, float(number))
    time.sleep(0.1)
    engine.may_go.set()
    assert [client.answer(number).arrays["y"].item() for number in range(7)] == [2.0 * n for n in range(7)]
    assert sum(engine.rows) == 7 and max(engine.rows) <= 4 and len(engine.rows) < 7


def test_a_bad_request_does_not_fail_those_beside_it(running: tuple[Doubler, Client]) -> None:
    engine, client = running
    hold_back(engine, client)
    for number, value in ((1, 5.0), (2, -1.0), (3, 6.0)):
        client.send(number, value)
    time.sleep(0.1)
    engine.may_go.set()
    assert client.answer(2).code == frames.INVALID_ARGUMENT
    assert (client.answer(1).arrays["y"].item(), client.answer(3).arrays["y"].item()) == (10.0, 12.0)


def test_a_late_request_is_not_computed(running: tuple[Doubler, Client]) -> None:
    engine, client = running
    hold_back(engine, client)
    client.send(1, 5.0, deadline=time.monotonic() + 0.01)
    client.send(2, 6.0, deadline=time.monotonic() + 600)
    time.sleep(0.1)
    engine.may_go.set()
    assert client.answer(1).code == frames.DEADLINE_EXCEEDED
    assert client.answer(2).arrays["y"].item() == 12.0
    assert sum(engine.rows) == 2


def test_a_client_that_sends_garbage_loses_its_connection_only(running: tuple[Doubler, Client], tmp_path: Path) -> None:
    _, client = running
    bad = Client(tmp_path / "s")
    bad.channel.sendall(b"\x01\x00\x00\x00garbage")
    assert bad.channel.recv(1) == b""
    client.send(1, 4.0)
    assert client.answer(1).arrays["y"].item() == 8.0
