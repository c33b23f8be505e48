"""Small models computed in the front itself: no other process has to wake up for a request.

The engine process stays: it answers until the front has compiled the model, and everything that a front does not
compute. A front computes only what cannot stop other requests: numbers whose shape the signature fixes except for the
batch size, and batches of sizes that were tried before and took at most ``front_trial.MOST_SECONDS`` then. A
computation that fails is repeated by the engine process.
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
from typing import NamedTuple, Protocol

import numpy as np

from saman.runs.engines.batches import Arrays, join, rows_of, split
from saman.runs.engines.interface import COMPILED, Engine
from saman.serving.engines.front_trial import suits_front
from saman.serving.front.table import ServedVersion
from saman.serving.interface.signatures import DEFAULT, SignatureFacts
from saman.serving.interface.status import ServingError, StatusCode
from saman.serving.interface.tensors import DTYPE_OF

_IDLE_SECONDS = 0.005
Elsewhere = Callable[[str, Arrays, float], "asyncio.Future[Arrays]"]
_log = logging.getLogger(__name__)


class FrontEngine(Engine, Protocol):
    """A model that a front loads and unloads while it serves."""

    def unload(self) -> None:
        """Free it, in a thread, with pauses for the others; it computes nothing any more."""


class FrontEngineKind(Protocol):
    """Loads models for a front."""

    def __call__(self, path: Path, threads: int) -> FrontEngine:
        """Load the model in ``path``; may raise any error."""


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

    def __init__(self, engine: FrontEngine, rows: int, most: int) -> None:
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

    @property
    def is_idle(self) -> bool:
        """Whether no request waits."""
        return not self._queue

    def unload(self) -> None:
        """Free the model."""
        self._engine.unload()

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

    def __init__(self, kind: FrontEngineKind | None, threads: int, rows: int, most: int) -> None:
        self._kind, self._threads, self._rows, self._most = kind, threads, rows, most
        self._loaded: dict[str, LocalEngine | None] = {}  # None: is being loaded, or does not suit
        self._loading: set[asyncio.Task[None]] = set()
        # A model after the other. Not at low priority: the thread would keep Python's lock while others use its core.
        self._worker = concurrent.futures.ThreadPoolExecutor(1, "local-engine")

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

    def _load_here(self, version: ServedVersion) -> FrontEngine | None:
        """Load a model, and try every batch size unless a rehearsal has; ``None`` where the model does not suit."""
        signature = version.signatures.get(DEFAULT)
        if signature is None or self._kind is None or (inputs := plain_inputs(signature)) is None:
            return None
        try:
            files = Path(version.files)
            engine, is_tried = self._kind(files, self._threads), (files / COMPILED).is_dir()
            return engine if is_tried or suits_front(engine, inputs, self._rows) else None
        except Exception as error:  # libraries raise errors of any kind
            _log.debug("version %s is computed by its engine process: %s", version.number, error)
            return None

    async def drop(self, socket: str) -> None:
        """Forget the model of an engine process that ends, after its last answer."""
        local = self._loaded.pop(socket, None)
        while local is not None and not local.is_idle:
            await asyncio.sleep(_IDLE_SECONDS)
        if local is not None:
            self._worker.submit(local.unload)


def plain_inputs(signature: SignatureFacts) -> Arrays | None:
    """An example of zeros; ``None`` where a request could choose more than numbers and the batch size."""
    found = {}
    for name, facts in signature.inputs.items():
        dtype, shape = DTYPE_OF.get(facts.dtype), facts.shape
        if dtype is None or dtype.kind not in "fiub" or not shape or shape[0] != -1 or min(shape[1:], default=1) < 1:
            return None
        found[name] = np.zeros((1, *shape[1:]), dtype)
    return found or None
