"""The life of a front process: settings and tables arrive as JSON lines on standard input, answers leave on output.

``prepare`` connects to the engines of a table, ``use`` exchanges the table, ``drain`` closes what is left over. SIGTERM
answers what has arrived and ends; so does the end of standard input, because the supervisor is gone then.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import signal
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

from saman.serving.front.access import read_access
from saman.serving.front.core import ServingCore
from saman.serving.front.grpc_service import GrpcService
from saman.serving.front.http_protocol import Connections
from saman.serving.front.local_engine import FrontEngineKind
from saman.serving.front.rest import RestService
from saman.serving.front.table import FrontSettings, ServingTable
from saman.serving.interface.json_tensors import render_error
from saman.serving.traffic import open_traffic

_LONGEST_LINE = 256 << 20
_GRACE_SECONDS = 0.2
_log = logging.getLogger(__name__)


class FrontProcess:
    """A front: its servers and its conversation with the supervisor."""

    def __init__(self, settings: FrontSettings) -> None:
        self._settings = settings
        self._core = ServingCore(settings, open_traffic(Path(settings.models_dir)), _engine_kind(settings))
        access = read_access(Path(settings.tokens) if settings.tokens else None)
        rest = RestService(self._core, access, self._is_ready)
        self._connections = Connections(rest.handle, settings.body_bytes, render_error)
        self._grpc_service = GrpcService(self._core, access, self._reload, self._is_ready)
        self._prepared = ServingTable()
        self._ending = asyncio.Event()
        self._has_table, self._serves = asyncio.Event(), asyncio.Event()
        self._reloads: list[asyncio.Future[str]] = []

    def _is_ready(self) -> bool:
        models = self._core.table.models.values()
        return bool(models) and not self._ending.is_set() and all(model.default is not None for model in models)

    async def run(self, lines: asyncio.StreamReader) -> None:
        """Serve until SIGTERM or the end of ``lines``."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal; the supervisor decides
        listener = socket.socket(fileno=self._settings.rest_socket)
        listener.setblocking(False)
        tasks = [loop.create_task(work) for work in (self._converse(lines), self._core.sweep(), self._sweep())]
        _say({"listening": True})
        await self._has_table.wait()  # until then connections wait in the kernel: there is nothing to answer with
        if self._ending.is_set():  # a spare that was never needed
            return
        server = await loop.create_server(self._connections.new, sock=listener, ssl=self._tls())
        grpc_server = await self._start_grpc()
        self._serves.set()
        await self._ending.wait()
        await self._take_backlog(listener)
        closing = loop.create_task(self._connections.close(_GRACE_SECONDS))
        server.close()
        if grpc_server is not None:
            await grpc_server.stop(self._settings.timeout_seconds)
        await closing
        for task in tasks:
            task.cancel()

    async def _take_backlog(self, listener: socket.socket) -> None:
        """Accept the connections that the kernel has already accepted: closing the socket would reset them."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0.02)  # the server accepts what waits
        with contextlib.suppress(OSError, ValueError):
            while True:
                channel, _ = listener.accept()
                await loop.connect_accepted_socket(self._connections.new, channel, ssl=self._tls())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self._connections.sweep(time.monotonic())

    def _tls(self) -> ssl.SSLContext | None:
        if not self._settings.certificate:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._settings.certificate, self._settings.key)
        return context

    async def _start_grpc(self) -> Any:
        settings = self._settings
        if not settings.grpc_port:
            return None
        server = grpc.aio.server(
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", settings.body_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_metadata_size", 32 << 10),
            ]
        )
        server.add_generic_rpc_handlers((self._grpc_service,))
        address = f"[{settings.host}]" if ":" in settings.host else settings.host
        if settings.certificate:
            pair = (Path(settings.key).read_bytes(), Path(settings.certificate).read_bytes())
            server.add_secure_port(f"{address}:{settings.grpc_port}", grpc.ssl_server_credentials([pair]))
        else:
            server.add_insecure_port(f"{address}:{settings.grpc_port}")
        await server.start()
        return server

    # ---- the supervisor ----------------------------------------------------------------------------------------

    async def _converse(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            message = json.loads(line)
            problem = ""
            try:
                await self._act(message)
            except OSError as error:
                problem = str(error)
            if message["do"] != "drain":
                _say({"done": message["do"], "number": message.get("number"), "problem": problem})
        self._end()

    def _end(self) -> None:
        self._ending.set()
        self._has_table.set()

    async def _act(self, message: dict[str, Any]) -> None:
        match message["do"]:
            case "prepare":
                self._prepared = ServingTable.from_json(message["table"])
                await self._core.prepare(self._prepared)
            case "use":
                self._core.use(self._prepared)
                self._has_table.set()
                await self._serves.wait()
            case "drain":
                number = message["number"]
                task = asyncio.get_running_loop().create_task(self._core.drain())
                task.add_done_callback(lambda _: _say({"done": "drain", "number": number, "problem": ""}))
                self._draining = task
            case "reloaded":
                for waiting in self._reloads:
                    if not waiting.done():
                        waiting.set_result(message["problem"])
                self._reloads.clear()

    async def _reload(self) -> str:
        """Have the supervisor read the registry now; returns the problem, empty for none."""
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reloads.append(waiting)
        _say({"ask": "reload"})
        try:
            return await asyncio.wait_for(waiting, self._settings.timeout_seconds)
        except asyncio.TimeoutError:
            return "the supervisor did not answer in time"


def _engine_kind(settings: FrontSettings) -> FrontEngineKind | None:
    """What loads the models that a front computes itself."""
    if settings.computes:
        with contextlib.suppress(ImportError):
            from saman.serving.engines.openvino_engine import load_batches

            return functools.partial(load_batches, rows=settings.rows)
    return None


def _say(fact: dict[str, Any]) -> None:
    os.write(sys.stdout.fileno(), json.dumps(fact).encode() + b"\n")


async def _run() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=_LONGEST_LINE)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    settings = FrontSettings(**json.loads(await lines.readline()))
    await FrontProcess(settings).run(lines)


def main() -> int:
    """Be a front process; returns the exit status."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    uvloop.run(_run())
    return 0
