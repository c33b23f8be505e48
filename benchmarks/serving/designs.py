"""Four designs of a server with the same OpenVINO model, each written as briefly as it works, beside ``saman serve``.

``python benchmarks/serving/designs.py [--seconds 3] [--rounds 3]``. All answer TensorFlow Serving's JSON:

- computing front: a front (httptools on uvloop) that computes in its own process, the design of ``saman serve``;
- shared memory: such fronts on one port, which hand arrays to an engine process in shared memory;
- Triton behind a front: the same front, which asks Triton's server over its binary HTTP interface;
- compiled server: granian (Rust) with a Python handler that computes in its own process.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import multiprocessing
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import httptools
import numpy as np
import orjson
import uvloop
from load import measure
from versus_triton import cache_folder, make_models, requests_of_both, show, start_saman, start_triton, wait_for

GRANIAN = "granian==2.5.4"
SLOTS, PIXELS, CLASSES, ROWS = 64, 784, 10, 16
Compute = Callable[[np.ndarray], Awaitable[np.ndarray]]


def load_model(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The model, compiled like saman's engine."""
    from saman.serving.engines.openvino_engine import OpenVinoEngine

    engine = OpenVinoEngine(path, 1)
    for size in range(1, ROWS + 1):
        engine.run("serving_default", {"inputs": np.zeros((size, 28, 28), np.float32)})
    return lambda images: engine.run("serving_default", {"inputs": images})["outputs"]


def images_of(body: bytes) -> np.ndarray:
    """The images of a request."""
    return np.asarray(orjson.loads(body)["instances"], np.float32)


def answer_of(outputs: np.ndarray) -> bytes:
    """The body of the answer."""
    return orjson.dumps({"predictions": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)


# ---- the front of the first two designs -----------------------------------------------------------------------------


class Connection(asyncio.Protocol):
    """A client; requests are answered one after the other."""

    def __init__(self, compute: Compute) -> None:
        self._compute, self._parser, self._body = compute, httptools.HttpRequestParser(self), b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        asyncio.get_running_loop().create_task(self._answer(body))

    async def _answer(self, body: bytes) -> None:
        text = answer_of(await self._compute(images_of(body))) if body else b"{}"
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(text)}\r\n\r\n"
        self._transport.write(head.encode() + text)


async def serve_front(port: int, compute: Compute) -> None:
    """Listen for ever; several processes share the port."""
    listener = socket.create_server(("127.0.0.1", port), reuse_port=True, backlog=128)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(compute), sock=listener)
    await server.serve_forever()


# ---- shared memory --------------------------------------------------------------------------------------------------


def slots_of(memory: SharedMemory) -> tuple[np.ndarray, np.ndarray]:
    """The images and answers of a front."""
    images = np.ndarray((SLOTS, 28, 28), np.float32, memory.buf)
    return images, np.ndarray((SLOTS, CLASSES), np.float32, memory.buf, images.nbytes)


def shared_front(port: int, memory: SharedMemory, channel: socket.socket) -> None:
    """A front that hands one image at a time to the engine: the number of its slot crosses the socket."""
    images, answers = slots_of(memory)
    free, waiting = collections.deque(range(SLOTS)), {}

    async def compute(given: np.ndarray) -> np.ndarray:
        slot = free.popleft()
        images[slot] = given[0]
        done = waiting[slot] = asyncio.get_running_loop().create_future()
        channel.send(bytes((slot,)))
        return await done

    def take() -> None:
        for slot in channel.recv(SLOTS):
            waiting.pop(slot).set_result(answers[slot : slot + 1].copy())
            free.append(slot)

    async def run() -> None:
        asyncio.get_running_loop().add_reader(channel, take)
        await serve_front(port, compute)

    uvloop.run(run())


def shared_engine(model: Path, memories: list[SharedMemory], channels: list[socket.socket]) -> None:
    """Compute together what all fronts have handed over."""
    run, slots, selector = load_model(model), [slots_of(memory) for memory in memories], selectors.DefaultSelector()
    for at, channel in enumerate(channels):
        selector.register(channel, selectors.EVENT_READ, at)
    while True:
        ready = [(key.data, slot) for key, _ in selector.select() for slot in channels[key.data].recv(ROWS)]
        for begin in range(0, len(ready), ROWS):
            batch = ready[begin : begin + ROWS]
            outputs = run(np.stack([slots[front][0][slot] for front, slot in batch]))
            for (front, slot), output in zip(batch, outputs, strict=True):
                slots[front][1][slot] = output
            for front in {front for front, _ in batch}:
                channels[front].send(bytes(slot for other, slot in batch if other == front))


def start_shared(model: Path, port: int, fronts: int) -> list[Any]:
    """Fronts and their engine."""
    context, pairs = multiprocessing.get_context("fork"), [socket.socketpair() for _ in range(fronts)]
    memories = [SharedMemory(create=True, size=4 * SLOTS * (PIXELS + CLASSES)) for _ in range(fronts)]
    started = [context.Process(target=shared_engine, args=(model, memories, [pair[0] for pair in pairs]))]
    started += [context.Process(target=shared_front, args=(port, memory, pair[1]))
                for memory, pair in zip(memories, pairs, strict=True)]  # fmt: skip
    for process in started:
        process.daemon = True
        process.start()
    return [*started, memories]


def computing_front(port: int, model: Path) -> None:
    """A front that computes together what arrives in rounds of its event loop."""
    from saman.serving.engines.openvino_engine import load_batches
    from saman.serving.front.local_engine import LocalEngine

    engine = LocalEngine(load_batches(model, 1, ROWS), ROWS, SLOTS)

    async def compute(images: np.ndarray) -> np.ndarray:
        return (await engine.send({"inputs": images}, float("inf"), lambda *_: asyncio.Future()))["outputs"]

    uvloop.run(serve_front(port, compute))


# ---- Triton behind a front ------------------------------------------------------------------------------------------


class TritonConnection(asyncio.Protocol):
    """A connection to Triton that asks for one computation at a time."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._found = b""

    def ask(self, request: bytes) -> asyncio.Future[np.ndarray]:
        self._answer: asyncio.Future[np.ndarray] = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._found += data
        head, end, body = self._found.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0]) if end else 0
        if end and len(body) >= length:
            self._found = b""
            self._answer.set_result(np.frombuffer(body[-4 * CLASSES :], np.float32).reshape(1, CLASSES))


def triton_front(port: int, triton: int, head: bytes) -> None:
    """A front that sends each image to Triton; ``head`` is all of the request but the image."""
    free: list[TritonConnection] = []

    async def compute(images: np.ndarray) -> np.ndarray:
        loop = asyncio.get_running_loop()
        link = free.pop() if free else (await loop.create_connection(TritonConnection, "127.0.0.1", triton))[1]
        outputs = await link.ask(head + images.tobytes())
        free.append(link)
        return outputs

    uvloop.run(serve_front(port, compute))


# ---- a compiled server ----------------------------------------------------------------------------------------------

_loaded: list[Callable[[np.ndarray], np.ndarray]] = []


async def app(scope: Any, protocol: Any) -> None:
    """The handler that granian calls (RSGI)."""
    if not _loaded:
        _loaded.append(load_model(Path(os.environ["MODEL"])))
    body = await protocol()
    text = answer_of(_loaded[0](images_of(body))) if body else b"{}"
    protocol.response_bytes(200, [("content-type", "application/json")], text)


def start_granian(model: Path, port: int) -> subprocess.Popen[bytes]:
    """granian with one worker, from a folder of its own in saman's cache."""
    folder = cache_folder() / "benchmarks" / GRANIAN
    if not folder.exists():
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", str(folder), GRANIAN], check=True)
    paths = [str(Path(__file__).parent), *sys.path, str(folder)]
    command = [sys.executable, "-m", "granian", "--interface", "rsgi", "--host", "127.0.0.1", "--port", str(port),
               "--workers", "1", "--no-ws", "--loop", "uvloop", "designs:app"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, paths)), "MODEL": str(model)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=18521)
    options = parser.parse_args()
    folder, port, started = Path(tempfile.mkdtemp(prefix="saman-")), options.port, []
    memories: list[SharedMemory] = []
    try:
        [model] = make_models(folder, 1)
        requests = requests_of_both()
        memories = start_shared(model, port, 1)[-1] + start_shared(model, port + 1, 2)[-1]
        started.append(start_triton(folder, model, port + 2))
        head = requests["Triton HTTP, binary"][: -4 * PIXELS]
        context = multiprocessing.get_context("fork")
        context.Process(target=triton_front, args=(port + 3, port + 2, head), daemon=True).start()
        context.Process(target=computing_front, args=(port + 6, model), daemon=True).start()
        started += [start_granian(model, port + 4), start_saman(folder, model, port + 5)]
        names = ("shared memory, 1 front", "shared memory, 2 fronts", "", "Triton behind a front",
                 "compiled server (granian)", "saman serve", "computing front")  # fmt: skip
        designs = {name: port + at for at, name in enumerate(names) if name}
        for at in designs.values():
            if at != port + 5:
                wait_for(f"http://127.0.0.1:{at}/", started[0])
            measure(at, requests["saman REST"], 16, 0.5)
        found: dict[tuple[str, int], list[Any]] = {}
        for _ in range(options.rounds):
            for name, at in designs.items():
                for clients in (1, 16):
                    measured = measure(at, requests["saman REST"], clients, options.seconds)
                    found.setdefault((name, clients), []).append(measured)
        show(found)
        print(f"load of the machine: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    finally:
        for server in started:
            server.terminate()
        for server in started:
            server.wait(60)
        for memory in memories:
            memory.unlink()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
