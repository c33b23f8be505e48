"""A template forks engines that it can fork safely; with other threads it becomes the engine itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.runs.engines import frames
from saman.runs.engines.frames import Frame, FrameReader
from saman.runs.engines.interface import BatchLimits
from saman.runs.engines.process import QUIET_PRIORITY, TEMPLATE_VARIABLES, EngineOrder, template_arguments

PROGRAM = """
import sys, threading, time
from saman.runs.engines.process import serve_engines

class Kind:
    def __init__(self, path, threads, *, ahead=0):
        if path.name == "broken":
            raise ValueError("no model")
    def run(self, signature, inputs):
        return inputs

def plain():
    return Kind

def threaded():
    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    return Kind

def lacking():
    import no_such_library

sys.exit(serve_engines({"plain": plain, "threaded": threaded, "lacking": lacking}[sys.argv[1]], sys.argv[2:]))
"""


class Template:
    """A template and the channels of what it was ordered to make."""

    def __init__(self, which: str, folder: Path) -> None:
        self.folder, self._count = folder, 0
        self.orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-c", PROGRAM, which, *template_arguments(1, BatchLimits(), is_urgent=True)]
        with theirs:
            self.process = subprocess.Popen(command, stdin=theirs.fileno(), env={**os.environ, **TEMPLATE_VARIABLES})

    def order(self) -> socket.socket:
        mine, theirs = socket.socketpair()
        self._count += 1
        with theirs:
            EngineOrder(str(self.folder / f"e{self._count}")).send(self.orders, theirs)
        mine.settimeout(60)
        return mine


@pytest.fixture
def templates(tmp_path: Path) -> Iterator[Any]:
    with contextlib.ExitStack() as made:

        def start(which: str) -> Template:
            template = Template(which, tmp_path)
            made.callback(template.process.wait, 60)
            made.callback(template.process.kill)
            return template

        yield start


def said(channel: socket.socket) -> Any:
    line = b""
    while not line.endswith(b"\n"):
        data = channel.recv(1)
        if not data:
            return None
        line += data
    return json.loads(line)


def load(channel: socket.socket, name: str, *, is_quiet: bool = False) -> None:
    channel.sendall(json.dumps({"model": name, "is_quiet": is_quiet}).encode() + b"\n")


def asked(engine: Path) -> Any:
    """What an engine that answers its input answers."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(engine))
        connection.sendall(frames.encode(Frame(1, "serving_default", {"x": np.array([1, 2], np.float32)})))
        reader = FrameReader()
        while True:
            for frame in reader.feed(connection.recv(1 << 16)):
                return frame.arrays["x"].tolist()


def priorities(process: int) -> list[int]:
    """Of the threads of a process."""
    found = []
    for thread in sorted(int(thread.name) for thread in Path(f"/proc/{process}/task").iterdir()):
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            found.append(os.getpriority(os.PRIO_PROCESS, thread))
    return found


def test_engines_are_forked_and_their_ends_told(templates: Any) -> None:
    template = templates("plain")
    channels = [template.order() for _ in range(3)]
    numbers = [said(channel)["pid"] for channel in channels]
    assert len({*numbers, template.process.pid}) == 4
    load(channels[0], "good")
    load(channels[1], "broken")
    assert said(channels[0]) == {"ready": True}
    assert "no model" in said(channels[1])["problem"]
    assert said(channels[1]) == {"ended": 1}
    for number in (numbers[0], numbers[2]):
        os.kill(number, signal.SIGKILL)
    for channel in (channels[0], channels[2]):
        assert said(channel) == {"ended": -signal.SIGKILL}
        assert said(channel) is None
    assert said(template.order())["pid"]  # it goes on


def test_a_closed_channel_ends_its_engine_and_closed_orders_end_the_template(templates: Any) -> None:
    template = templates("plain")
    first, second = template.order(), template.order()
    assert said(first) and said(second)
    load(first, "good")
    assert said(first) == {"ready": True}
    first.shutdown(socket.SHUT_WR)
    assert said(first) == {"ended": 0}
    template.orders.close()
    assert template.process.wait(60) == 0
    load(second, "good")
    assert said(second) == {"ready": True}  # an engine outlives its template
    second.shutdown(socket.SHUT_WR)
    assert said(second) is None


def test_a_template_with_other_threads_becomes_the_engine(templates: Any) -> None:
    template = templates("threaded")
    channel = template.order()
    assert said(channel) == {"pid": template.process.pid}
    load(channel, "good")
    assert said(channel) == {"ready": True}
    with pytest.raises(OSError):
        template.order()


def test_a_library_that_is_missing_is_told_to_every_engine(templates: Any) -> None:
    template = templates("lacking")
    for _ in range(2):
        assert said(template.order())["lacks"] == "no_such_library"


def test_an_engine_that_was_loaded_quietly_serves_with_the_priority_of_its_template(templates: Any) -> None:
    template = templates("plain")
    channel = template.order()
    number = said(channel)["pid"]
    load(channel, "good", is_quiet=True)
    assert said(channel) == {"ready": True}
    assert priorities(number) == [0, QUIET_PRIORITY]
    assert asked(template.folder / "e1") == [1.0, 2.0]  # while it is tried
    channel.sendall(b"{}\n")
    assert said(channel) == {"ready": True}
    assert asked(template.folder / "e1") == [1.0, 2.0]
    until = time.monotonic() + 60
    while set(priorities(number)) != {0}:  # the thread that tried it is ending
        assert time.monotonic() < until
