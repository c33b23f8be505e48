"""A front computes small models itself: together what arrived together, never after the deadline, never wrongly."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.serving.engines.front_trial import MOST_SECONDS
from saman.serving.front.local_engine import LocalEngine, LocalEngines, plain_inputs
from saman.serving.front.table import ServedVersion, VersionLife
from saman.serving.interface.messages import message_class
from saman.serving.interface.signatures import SignatureFacts, TensorFacts
from saman.serving.interface.status import ServingError, StatusCode

FLOAT, STRING = 1, 7
LATER = 1e9  # a deadline


class Doubling:
    """An engine; ``sizes`` lists its batches."""

    def __init__(
        self, seconds: float = 0.0, *, breaks: bool = False, keeps_rows: bool = True, mixes_rows: bool = False
    ) -> None:
        self.sizes: list[int] = []
        self.is_unloaded = threading.Event()
        self._seconds, self._breaks, self._keeps_rows, self._mixes_rows = seconds, breaks, keeps_rows, mixes_rows
        self._earlier = np.zeros(3, np.float32)

    def unload(self) -> None:
        self.is_unloaded.set()

    def run(self, signature: str, inputs: Any) -> Any:
        if self._breaks:
            raise RuntimeError("broken")
        time.sleep(self._seconds)
        self.sizes.append(len(inputs["x"]))
        found = 2 * inputs["x"]
        if self._mixes_rows:  # fills the batch with earlier rows, which change the answer
            self._earlier[: len(found)] = found
            found = found + self._earlier.max()
        return {"y": found if self._keeps_rows else found.sum(axis=0)}


def rows(*values: float) -> dict[str, Any]:
    return {"x": np.array(values, dtype=np.float32)}


def nowhere(signature: str, inputs: Any, deadline: float) -> Any:
    raise AssertionError("no request needs the engine process")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_what_arrives_together_is_computed_together_and_everybody_gets_their_own() -> None:
    engine = Doubling()

    async def ask() -> list[Any]:
        local = LocalEngine(engine, rows=4, most=100)
        return await asyncio.gather(*(local.send(rows(*values), LATER, nowhere) for values in ((1, 2), (3,), (4, 5))))

    assert [found["y"].tolist() for found in run(ask())] == [[2, 4], [6], [8, 10]]
    assert engine.sizes == [3, 2]  # at most four examples


def test_what_follows_in_the_next_rounds_of_the_event_loop_joins_up_to_the_limit() -> None:
    engine = Doubling()

    async def ask() -> list[Any]:
        local, answers = LocalEngine(engine, rows=4, most=100), []
        for value in range(6):
            answers.append(local.send(rows(value), LATER, nowhere))
            await asyncio.sleep(0)
        return await asyncio.gather(*answers)

    assert [found["y"].tolist() for found in run(ask())] == [[2 * value] for value in range(6)]
    assert engine.sizes == [4, 2]


def test_a_late_request_is_not_computed_and_a_full_queue_refuses() -> None:
    engine = Doubling()

    async def ask() -> list[StatusCode]:
        local = LocalEngine(engine, rows=4, most=2)
        late, good = local.send(rows(1), 0.0, nowhere), local.send(rows(2), LATER, nowhere)
        with pytest.raises(ServingError) as full:
            local.send(rows(3), LATER, nowhere)
        with pytest.raises(ServingError) as missed:
            await late
        assert (await good)["y"].tolist() == [4]
        return [full.value.code, missed.value.code]

    assert run(ask()) == [StatusCode.RESOURCE_EXHAUSTED, StatusCode.DEADLINE_EXCEEDED]
    assert engine.sizes == [1]


def test_a_failed_batch_is_repeated_by_the_engine_process_one_by_one() -> None:
    def process(signature: str, inputs: Any, deadline: float) -> asyncio.Future[Any]:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if inputs["x"][0] == 2:
            answer.set_exception(ServingError(StatusCode.INVALID_ARGUMENT, "no"))
        else:
            answer.set_result({"y": inputs["x"]})
        return answer

    async def ask() -> list[Any]:
        local = LocalEngine(Doubling(breaks=True), rows=4, most=100)
        return await asyncio.gather(
            *(local.send(rows(value), LATER, process) for value in (1, 2)), return_exceptions=True
        )

    good, bad = run(ask())
    assert good["y"].tolist() == [1] and isinstance(bad, ServingError) and bad.code is StatusCode.INVALID_ARGUMENT


def test_other_signatures_and_larger_requests_are_not_taken() -> None:
    local = LocalEngine(Doubling(), rows=2, most=100)
    assert local.takes("serving_default", rows(1, 2))
    assert not local.takes("other", rows(1))
    assert not local.takes("serving_default", rows(1, 2, 3))
    assert not local.takes("serving_default", rows())


@pytest.mark.parametrize(
    ("dtype", "shape", "is_plain"),
    [
        (FLOAT, (-1, 2, 3), True),
        (FLOAT, (-1,), True),
        (FLOAT, (-1, -1), False),  # a request would choose the shape
        (FLOAT, (4, 2), False),
        (FLOAT, (-1, 0), False),
        (FLOAT, None, False),
        (STRING, (-1,), False),
    ],
)
def test_only_numbers_of_a_fixed_shape_are_computed_in_a_front(dtype: int, shape: Any, is_plain: bool) -> None:
    assert (plain_inputs(SignatureFacts("", {"x": TensorFacts("x:0", dtype, shape)})) is not None) is is_plain


def version() -> ServedVersion:
    signatures = message_class("SignatureDefMap")()
    inputs = signatures.signature_def["serving_default"].inputs["x"]
    inputs.name, inputs.dtype = "x:0", FLOAT
    inputs.tensor_shape.dim.add().size = -1
    return ServedVersion(1, VersionLife.AVAILABLE, "socket", signatures.SerializeToString(), files="folder")


@pytest.mark.parametrize(
    ("engine", "suits"),
    [
        (Doubling(), True),
        (Doubling(2 * MOST_SECONDS), False),  # would keep the front from everybody else
        (Doubling(keeps_rows=False), False),  # answers cannot be told apart
        (Doubling(mixes_rows=True), False),  # an answer depends on somebody else's rows
        (Doubling(breaks=True), False),
    ],
)
def test_a_model_that_could_hold_up_others_stays_in_its_engine_process(engine: Doubling, suits: bool) -> None:
    def load(path: Path, threads: int) -> Doubling:
        assert (path, threads) == (Path("folder"), 1)
        return engine

    async def found() -> LocalEngine | None:
        engines = LocalEngines(load, threads=1, rows=3, most=10)
        engines.prepare(version())
        await engines.settle(60.0)
        return engines.find("socket")

    assert (run(found()) is not None) is suits


def test_a_change_waits_for_a_model_to_be_loaded_but_not_for_ever() -> None:
    may_load = threading.Event()

    def load(path: Path, threads: int) -> Doubling:
        assert may_load.wait(60)
        return Doubling()

    async def found() -> list[bool]:
        engines, states = LocalEngines(load, threads=1, rows=3, most=10), []
        engines.prepare(version())
        await engines.settle(0.01)
        states.append(engines.find("socket") is not None)
        may_load.set()
        await engines.settle(60.0)
        return [*states, engines.find("socket") is not None]

    assert run(found()) == [False, True]


def test_a_model_is_unloaded_after_its_last_answer() -> None:
    engine = Doubling()

    async def ask() -> list[Any]:
        engines = LocalEngines(lambda path, threads: engine, threads=1, rows=3, most=10)
        engines.prepare(version())
        await engines.settle(60.0)
        local = engines.find("socket")
        assert local is not None
        answers = [local.send(rows(value), LATER, nowhere) for value in range(9)]
        await engines.drop("socket")
        assert engines.find("socket") is None and all(answer.done() for answer in answers)
        assert await asyncio.to_thread(engine.is_unloaded.wait, 60)
        return [answer.result()["y"].tolist() for answer in answers]

    assert run(ask()) == [[2 * value] for value in range(9)]
