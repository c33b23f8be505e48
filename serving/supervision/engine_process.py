"""Engine processes as the supervisor sees them: forked by a template, given a model, asked over their socket, ended.

A template has imported its library, so that an engine takes a model in the time that the model needs.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.secrecy import is_secret
from saman.runs.commands import CommandLog
from saman.runs.engines import frames
from saman.runs.engines.batches import Arrays
from saman.runs.engines.frames import Frame, FrameReader
from saman.runs.engines.interface import BatchLimits
from saman.runs.engines.process import TEMPLATE_VARIABLES, EngineOrder, template_arguments

_MODULES = {
    "openvino": ["saman.serving.engines", "openvino"],
    "onnx": ["saman.serving.engines", "onnx"],
    "tensorflow": ["saman.trainers.serve"],
}
_PACKAGES = {"openvino": "saman[serve]", "onnx": "onnxruntime", "tensorflow": "saman[train]"}
_START_SECONDS = 120.0
_RESTART_SECONDS = 1.0


class EngineFailure(UserError):  # noqa: N818
    """An engine cannot load a model, or ended; ``problem`` says why."""


class EngineEnded(EngineFailure):
    """The process ended, perhaps by no fault of the model: another process may load it."""


class EngineStarved(EngineFailure):
    """The process took too long, perhaps because others have the cores: it may do better at their priority."""


class EngineProcess:
    """An engine process.

    Args:
        kind: ``openvino``, ``onnx`` or ``tensorflow``.
        socket_path: Where it will listen.
        channel: The connection to it, which it and its template write to.
    """

    def __init__(self, kind: str, socket_path: Path, channel: socket.socket) -> None:
        self.kind, self.socket_path = kind, socket_path
        self._channel, self._said = channel, queue.Queue[dict[str, Any]]()
        self._pid, self._status, self._ended = 0, -1, threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """The process's number; 0 until it has told it."""
        return self._pid

    def _read(self) -> None:
        with contextlib.suppress(OSError), self._channel.makefile("rb") as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    self._take(json.loads(line))
        self._ended.set()
        self._said.put({"ended": self._status})
        self._channel.close()

    def _take(self, fact: dict[str, Any]) -> None:
        if "pid" in fact:
            self._pid = int(fact["pid"])
        elif "ended" in fact:
            self._status = int(fact["ended"])
        else:
            self._said.put(fact)

    def _next(self, seconds: float) -> None:
        try:
            fact = self._said.get(timeout=seconds)
        except queue.Empty:
            raise EngineStarved(f"the {self.kind} engine did not answer within {seconds:g} s") from None
        if "ended" in fact:
            raise EngineEnded(f"the {self.kind} engine process ended")
        if "problem" not in fact:
            return
        if "lacks" in fact and fact["lacks"]:
            remedy = f"pip install '{_PACKAGES[self.kind]}'"
            raise EnvironmentLack(f"the {self.kind} engine needs {fact['lacks']}", remedy=remedy)
        raise EngineFailure(f"{self.kind}: {fact['problem']}")

    def load(self, model: Path, seconds: float = _START_SECONDS, *, is_quiet: bool = False) -> None:
        """Load a model; returns when the engine listens.

        Args:
            model: The model's folder.
            seconds: The longest time.
            is_quiet: Whether it loads and answers at low priority, until ``serve``.

        Raises:
            EngineFailure: The model cannot be loaded.
            EnvironmentLack: The engine's library is missing.
        """
        with contextlib.suppress(OSError):  # the answer is that it ended
            self._channel.sendall(json.dumps({"model": str(model), "is_quiet": is_quiet}).encode() + b"\n")
        self._next(seconds)

    def serve(self) -> None:
        """Have an engine that was loaded quietly serve at normal priority; raises ``EngineFailure``."""
        with contextlib.suppress(OSError):
            self._channel.sendall(b"{}\n")
        self._next(_START_SECONDS)

    def ask(self, signature: str, inputs: Arrays, seconds: float = _START_SECONDS) -> Arrays:
        """Compute, from this process; raises ``EngineFailure``."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as channel:
                channel.settimeout(seconds)
                channel.connect(str(self.socket_path))
                channel.sendall(frames.encode(Frame(1, signature, inputs)))
                reader = FrameReader()
                while data := channel.recv(1 << 18):
                    for frame in reader.feed(data):
                        if frame.code != frames.OK:
                            raise EngineFailure(f"{self.kind}: {frame.text}")
                        return frame.arrays
        except TimeoutError as error:
            raise EngineStarved(f"the {self.kind} engine did not compute within {seconds:g} s") from error
        except OSError as error:
            raise EngineEnded(f"{self.kind}: {error}") from error
        raise EngineEnded(f"the {self.kind} engine ended while it computed")

    def status(self) -> int | None:
        """The exit status, -1 where nobody knows it; ``None`` while it runs."""
        return self._status if self._ended.is_set() else None

    def end(self, seconds: float = 10.0) -> None:
        """End the process after what it computes; after ``seconds`` it is killed."""
        self._signal(signal.SIGTERM)
        threading.Thread(target=self._kill_after, args=(seconds,), daemon=True).start()

    def _kill_after(self, seconds: float) -> None:
        if not self._ended.wait(seconds):
            self.kill()

    def kill(self) -> None:
        """End the process at once, and wait for it."""
        self._signal(signal.SIGKILL)
        self._ended.wait(5.0)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(OSError):
            if self._pid and not self._ended.is_set():
                os.kill(self._pid, number)
            self._channel.shutdown(socket.SHUT_WR)  # an engine that is yet to be forked reads this


class _Template:
    """A process that has imported an engine's library, or does; it forks engines."""

    def __init__(self, kind: str, threads: int, limits: BatchLimits, *, is_urgent: bool) -> None:
        self._kind = kind
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [sys.executable, "-m", *_MODULES[kind], *template_arguments(threads, limits, is_urgent=is_urgent)]
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment()
            )
        self._log, self._began = CommandLog(command, self._process.pid), time.monotonic()

    def was_killed(self) -> bool:
        """Whether it has ended; not soon after its start, because the next would do the same."""
        return self._process.poll() is not None and time.monotonic() - self._began > _RESTART_SECONDS

    def make(self, order: EngineOrder) -> EngineProcess:
        """Have it fork an engine, as soon as it can; raises ``OSError`` where it has ended."""
        mine, theirs = socket.socketpair()
        with theirs:
            try:
                order.send(self._orders, theirs)
            except OSError:
                mine.close()
                raise
        return EngineProcess(self._kind, Path(order.path), mine)

    def kill(self) -> None:
        self._orders.close()
        self._process.kill()
        self._log.end(self._process.wait())


class EnginePool:
    """Makes engines; keeps a template of each kind that was needed.

    Args:
        runtime: A private folder for sockets.
        threads: Threads of each engine.
        limits: How an engine joins requests.
    """

    def __init__(self, runtime: Path, threads: int, limits: BatchLimits) -> None:
        self._runtime, self._threads, self._limits = runtime, threads, limits
        self._numbers = itertools.count(1)
        # A process inherits the priority of the thread that starts it, and checks run in threads of the lowest. The
        # worker inherits that of this thread, so it begins here.
        self._starter = concurrent.futures.ThreadPoolExecutor(1, "engine-starter")
        self._starter.submit(os.getpid).result()
        self._templates: dict[str, _Template] = {}
        self._lock, self._is_closed = threading.Lock(), False

    def take(self, kind: str, *, is_rehearsal: bool = False, is_urgent: bool = False) -> EngineProcess:
        """A new engine.

        Args:
            kind: The engine.
            is_rehearsal: Whether it checks a model, at the lowest priority.
            is_urgent: Whether requests wait for it: a check then runs, and a new template imports, at normal priority.

        Raises:
            EngineFailure: The server ends.
        """
        order = EngineOrder(str(self._runtime / f"e{next(self._numbers)}"), is_rehearsal, is_urgent)
        with self._lock:
            if kind in self._templates:
                with contextlib.suppress(OSError):
                    return self._templates[kind].make(order)
            try:
                return self._start(kind, is_urgent=is_urgent).make(order)
            except OSError:
                raise EngineEnded(f"the template of {kind} engines ended") from None

    def may_be_quiet(self, kind: str) -> bool:
        """Whether engines of a kind compute in the thread that asks, and may start in another of low priority.

        Threads that a library starts for its computations, as TensorFlow always does, would stay at that priority.
        """
        return kind != "tensorflow" and self._threads == 1

    def restore(self, *, is_urgent: bool) -> None:
        """Replace templates that were killed."""
        with self._lock:
            for kind in [kind for kind, template in self._templates.items() if template.was_killed()]:
                self._start(kind, is_urgent=is_urgent)

    def _start(self, kind: str, *, is_urgent: bool) -> _Template:
        if self._is_closed:
            raise EngineFailure("the server ends")
        before = self._templates.pop(kind, None)
        if before is not None:
            before.kill()
        started = self._starter.submit(_Template, kind, self._threads, self._limits, is_urgent=is_urgent).result()
        self._templates[kind] = started
        return started

    def close(self) -> None:
        """End the templates."""
        with self._lock:
            self._is_closed = True
            for template in self._templates.values():
                template.kill()
            self._templates.clear()


Given = TypeVar("Given")


def twice(attempt: Callable[[], Given]) -> Given:
    """Attempt again, with another process, where the first ended: somebody may have killed it."""
    try:
        return attempt()
    except EngineEnded:
        return attempt()


def _environment() -> Mapping[str, str]:
    """An engine runs a model, which is a program: it gets none of the user's secrets."""
    plain = {name: value for name, value in os.environ.items() if not is_secret(name)}
    return {**plain, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "PASSIVE", **TEMPLATE_VARIABLES}
