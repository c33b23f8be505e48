"""A front's connection to an engine that is being restarted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from saman.runs.engines import frames
from saman.runs.engines.frames import Frame, FrameReader
from saman.serving.front.engine_link import EngineLink
from saman.serving.interface.status import ServingError, StatusCode


async def _engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer each request with its inputs."""
    cutter = FrameReader()
    while data := await reader.read(1 << 16):
        for frame in cutter.feed(data):
            writer.write(frames.encode(Frame(frame.number, "", frame.arrays)))
    writer.close()


def test_a_front_that_starts_while_an_engine_restarts_waits_for_it_and_then_answers(tmp_path: Path) -> None:
    async def ask() -> list[float]:
        link = EngineLink(str(tmp_path / "engine"), 10)
        await link.open()  # nothing listens yet
        answer = link.send("s", {"x": np.array([1.0, 2.0])}, time.monotonic() + 60)
        server = await asyncio.start_unix_server(_engine, str(tmp_path / "engine"))
        found: list[float] = (await answer)["x"].tolist()
        link.close()
        server.close()
        return found

    assert asyncio.run(asyncio.wait_for(ask(), 60)) == [1.0, 2.0]


def test_a_full_queue_refuses_and_a_late_request_is_not_waited_for(tmp_path: Path) -> None:
    async def ask() -> list[StatusCode]:
        link = EngineLink(str(tmp_path / "engine"), 2)
        await link.open()  # no engine: requests wait
        inputs = {"x": np.array([1.0])}
        late, other = link.send("s", inputs, 5.0), link.send("s", inputs, 50.0)
        with pytest.raises(ServingError) as full:
            link.send("s", inputs, 50.0)
        link.expire(now=10.0)
        with pytest.raises(ServingError) as missed:
            await late
        assert not other.done() and link.open_requests == 1
        link.close()
        return [full.value.code, missed.value.code]

    assert asyncio.run(ask()) == [StatusCode.RESOURCE_EXHAUSTED, StatusCode.DEADLINE_EXCEEDED]
