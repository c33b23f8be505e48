"""Small models computed in the front itself: no other process has to wake up for a request.

The engine process stays: it answers until the front has compiled the model, and everything that a front does not
compute. A front computes only what cannot stop other requests: numbers whose shape the signature fixes except for the
batch size, batch sizes that were tried at loading, and batches that took at most ``MOST_SECONDS`` then. A computation
that fails is repeated by the engine process.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from saman.runs.engines.batches import Arrays, join, rows_of, split
from saman.runs.engines.interface import Engine, EngineKind
from saman.serving.front.table import ServedVersion
from saman.serving.interface.signatures import DEFAULT, SignatureFacts
from saman.serving.interface.status import ServingError, StatusCode
from saman.serving.interface.tensors import DTYPE_OF

_TRIALS = 5  # the fastest counts: others may use the cores
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4  # differences by the order of sums in batches of other sizes
MOST_SECONDS = 0.005  # of the largest batch; meanwhile the front serves nobody else
Elsewhere = Callable[[str, Arrays, float], "asyncio.Future[Arrays]"]
_log = logging.getLogger(__name__)


class _Waiting(NamedTuple):
    inputs: Arrays
    rows: int
    deadline: float
    answer: asyncio.Future[Arrays]
    elsewhere: Elsewhere


class LocalEngine:
    """A model in the front. What arrives in rounds of the event loop that follow each other is computed together.

    Args:
        engine: The loaded model.
        rows: Most examples of a batch.
        most: Most requests that wait.
    """

    def __init__(self, engine: Engine, rows: int, most: int) -> None:
        self._engine, self._rows, self._most = engine, rows, most
        self._queue: collections.deque[_Waiting] = collections.deque()
        self._seen = 0  # requests that waited at the last look

    def takes(self, signature: str, inputs: Arrays) -> bool:
        """Whether it computes this request."""
        return signature == DEFAULT and 0 < rows_of(inputs) <= self._rows

    def send(self, inputs: Arrays, deadline: float, elsewhere: Elsewhere) -> asyncio.Future[Arrays]:
        """Compute a request soon; raises ``ServingError`` where the queue is full.

        Args:
            inputs: The inputs, which ``takes`` has accepted.
            deadline: In seconds of ``time.monotonic``.
            elsewhere: Computes the request if this engine fails.
        """
        if len(self._queue) >= self._most:
            raise ServingError(StatusCode.RESOURCE_EXHAUSTED, f"The queue of {self._most} requests is full")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Arrays] = loop.create_future()
        if not self._queue:
            loop.call_soon(self._compute)
        self._queue.append(_Waiting(inputs, rows_of(inputs), deadline, answer, elsewhere))
        return answer

    def _compute(self) -> None:
        if self._seen < len(self._queue) < self._rows:
            # More have arrived in this round of the event loop: others may follow in the next.
            self._seen = len(self._queue)
            asyncio.get_running_loop().call_soon(self._compute)
            return
        self._seen = 0
        batch = self._next_batch()
        if batch:
            try:
                outputs = self._engine.run(DEFAULT, join([one.inputs for one in batch]))
                answers = split(outputs, [one.rows for one in batch])
            except Exception:
                _log.warning("a computation in the front failed; the engine process repeats it", exc_info=True)
                answers = None
            for at, one in enumerate(batch):
                if answers is None:
                    _hand_over(one)
                elif not one.answer.done():
                    one.answer.set_result(answers[at])
        if self._queue:
            asyncio.get_running_loop().call_soon(self._compute)

    def _next_batch(self) -> list[_Waiting]:
        batch, rows, now = [], 0, time.monotonic()
        while self._queue and rows + self._queue[0].rows <= self._rows:
            one = self._queue.popleft()
            if one.answer.done():
                continue
            if one.deadline <= now:
                problem = "Deadline exceeded before the computation"
                one.answer.set_exception(ServingError(StatusCode.DEADLINE_EXCEEDED, problem))
                continue
            batch.append(one)
            rows += one.rows
        return batch


def _hand_over(one: _Waiting) -> None:
    """Have the engine process compute a request."""

    def done(found: asyncio.Future[Arrays]) -> None:
        if one.answer.done() or found.cancelled():
            one.answer.cancel()
        elif (error := found.exception()) is not None:
            one.answer.set_exception(error)
        else:
            one.answer.set_result(found.result())

    try:
        one.elsewhere(DEFAULT, one.inputs, one.deadline).add_done_callback(done)
    except ServingError as error:
        one.answer.set_exception(error)


class LocalEngines:
    """The models that a front computes itself, by the socket of their engine process.

    Args:
        kind: Loads a model; ``None``: every request goes to engine processes.
        threads: Threads of an engine.
        rows: Most examples of a batch.
        most: Most requests that wait for a model.
    """

    def __init__(self, kind: EngineKind | None, threads: int, rows: int, most: int) -> None:
        self._kind, self._threads, self._rows, self._most = kind, threads, rows, most
        self._loaded: dict[str, LocalEngine | None] = {}  # None: is being loaded, or does not suit
        self._loading: set[asyncio.Task[None]] = set()
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "local-engine")  # a model after the other

    def find(self, socket: str) -> LocalEngine | None:
        """The model of an engine process, if the front computes it."""
        return self._loaded.get(socket)

    def prepare(self, version: ServedVersion) -> None:
        """Begin to load a version, once."""
        if self._kind is None or not version.files or version.socket in self._loaded:
            return
        self._loaded[version.socket] = None
        task = asyncio.get_running_loop().create_task(self._load(version))
        self._loading.add(task)
        task.add_done_callback(self._loading.discard)

    async def settle(self, seconds: float) -> None:
        """Wait until what is being loaded is loaded, at most ``seconds``."""
        if self._loading:
            await asyncio.wait(self._loading, timeout=seconds)

    async def _load(self, version: ServedVersion) -> None:
        with contextlib.suppress(concurrent.futures.CancelledError, RuntimeError):  # at the end of the process
            loop = asyncio.get_running_loop()
            engine = await loop.run_in_executor(self._worker, self._load_here, version)
            if engine is not None and version.socket in self._loaded:
                self._loaded[version.socket] = LocalEngine(engine, self._rows, self._most)

    def _load_here(self, version: ServedVersion) -> Engine | None:
        """Load and try every batch size; ``None`` where the model does not suit."""
        signature = version.signatures.get(DEFAULT)
        if signature is None or self._kind is None or (inputs := plain_inputs(signature)) is None:
            return None
        try:
            engine = self._kind(Path(version.files), self._threads)
            return engine if _suits(engine, inputs, self._rows) else None
        except Exception as error:  # libraries raise errors of any kind
            _log.debug("version %s is computed by its engine process: %s", version.number, error)
            return None

    def drop(self, socket: str) -> None:
        """Forget the model of an engine process that ends."""
        self._loaded.pop(socket, None)


def plain_inputs(signature: SignatureFacts) -> Arrays | None:
    """An example of zeros; ``None`` where a request could choose more than numbers and the batch size."""
    found = {}
    for name, facts in signature.inputs.items():
        dtype, shape = DTYPE_OF.get(facts.dtype), facts.shape
        if dtype is None or dtype.kind not in "fiub" or not shape or shape[0] != -1 or min(shape[1:], default=1) < 1:
            return None
        found[name] = np.zeros((1, *shape[1:]), dtype)
    return found or None


def _suits(engine: Engine, example: Arrays, rows: int) -> bool:
    """Try every batch size, the smallest and the largest for their duration too.

    Each answer must be that of the example alone. The engine may fill a batch with rows of an earlier, larger batch:
    here they hold other numbers, and must not matter.
    """
    alone = engine.run(DEFAULT, example)
    for size in range(rows, 0, -1):
        inputs = {name: np.repeat(array, size, axis=0) for name, array in example.items()}
        outputs = engine.run(DEFAULT, inputs)
        if any(rows_of({name: array}) != size for name, array in outputs.items()):
            return False
        if any(not np.allclose(outputs[name], alone[name], _RELATIVE, _ABSOLUTE, equal_nan=True) for name in alone):
            return False
        if size in (1, rows) and min(_duration(engine, inputs) for _ in range(_TRIALS)) > MOST_SECONDS:
            return False
        engine.run(DEFAULT, {name: np.ones_like(array) for name, array in inputs.items()})
    return True


def _duration(engine: Engine, inputs: Arrays) -> float:
    began = time.perf_counter()
    engine.run(DEFAULT, inputs)
    return time.perf_counter() - began
