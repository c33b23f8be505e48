"""Engine processes as the supervisor sees them: started early, given a model, asked over their socket, ended.

A process that waits with its library imported takes a model in the time that the model needs.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import json
import os
import queue
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
from saman.runs.engines.process import engine_arguments

_MODULES = {
    "openvino": ["saman.serving.engines", "openvino"],
    "onnx": ["saman.serving.engines", "onnx"],
    "tensorflow": ["saman.trainers.serve"],
}
_PACKAGES = {"openvino": "saman[serve]", "onnx": "onnxruntime", "tensorflow": "saman[train]"}
_START_SECONDS = 120.0


class EngineFailure(UserError):  # noqa: N818
    """An engine cannot load a model, or ended; ``problem`` says why."""


class EngineEnded(EngineFailure):
    """The process ended, perhaps by no fault of the model: another process may load it."""


class EngineProcess:
    """An engine process.

    Args:
        kind: ``openvino``, ``onnx`` or ``tensorflow``.
        socket_path: Where it will listen; the file of an earlier process is removed.
        threads: Threads of the engine.
        limits: How it joins requests.
        is_rehearsal: Whether it runs at the lowest priority, to check a model.
        is_urgent: Whether it imports its library at normal priority.
    """

    def __init__(
        self, kind: str, socket_path: Path, threads: int, limits: BatchLimits, *, is_rehearsal: bool = False,
        is_urgent: bool = False,
    ) -> None:  # fmt: skip
        self.kind, self.socket_path = kind, socket_path
        socket_path.unlink(missing_ok=True)
        arguments = engine_arguments(socket_path, threads, limits, is_rehearsal=is_rehearsal, is_urgent=is_urgent)
        command = [sys.executable, "-m", *_MODULES[kind], *arguments]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=_environment()
        )
        self._log = CommandLog(command, self._process.pid)
        self._said: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._is_imported = False

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                with contextlib.suppress(ValueError):
                    self._said.put(json.loads(line))
        self._said.put({"ended": True})

    def _next(self, seconds: float) -> dict[str, Any]:
        try:
            fact = self._said.get(timeout=seconds)
        except queue.Empty:
            raise EngineFailure(f"the {self.kind} engine did not answer within {seconds:g} s") from None
        if "ended" in fact:
            raise EngineEnded(f"the {self.kind} engine process ended")
        if "problem" not in fact:
            return fact
        if "lacks" in fact and fact["lacks"]:
            remedy = f"pip install '{_PACKAGES[self.kind]}'"
            raise EnvironmentLack(f"the {self.kind} engine needs {fact['lacks']}", remedy=remedy)
        raise EngineFailure(f"{self.kind}: {fact['problem']}")

    def load(self, model: Path, seconds: float = _START_SECONDS) -> None:
        """Load a model; returns when the engine listens.

        Raises:
            EngineFailure: The model cannot be loaded.
            EnvironmentLack: The engine's library is missing.
        """
        if not self._is_imported:
            self._next(_START_SECONDS)
            self._is_imported = True
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"model": str(model)}).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise EngineEnded(f"the {self.kind} engine process ended") from None
        self._next(seconds)

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
            raise EngineFailure(f"the {self.kind} engine did not compute within {seconds:g} s") from error
        except OSError as error:
            raise EngineEnded(f"{self.kind}: {error}") from error
        raise EngineEnded(f"the {self.kind} engine ended while it computed")

    def status(self) -> int | None:
        """The exit status; ``None`` while it runs."""
        return self._process.poll()

    def end(self, seconds: float = 10.0) -> None:
        """End the process after what it computes."""
        if self._process.poll() is None:
            self._process.terminate()
        threading.Thread(target=self._reap, args=(seconds,), daemon=True).start()

    def _reap(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if self._process.poll() is None:
            self._process.kill()
        self._log.end(self._process.wait())
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def kill(self) -> None:
        """End the process at once, and wait for it."""
        if self._process.poll() is None:
            self._process.kill()
        self._reap(5.0)


class EnginePool:
    """Starts engines, and keeps processes waiting.

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
        self._waiting: dict[tuple[str, bool], EngineProcess] = {}
        self._lock, self._is_closed = threading.Lock(), False

    def take(self, kind: str, *, is_rehearsal: bool = False, is_urgent: bool = False) -> EngineProcess:
        """A process that waits, else a new process.

        Args:
            kind: The engine.
            is_rehearsal: Whether it runs at the lowest priority.
            is_urgent: Whether requests wait for it: a new process then imports its library at normal priority.

        Raises:
            EngineFailure: The server ends.
        """
        with self._lock:
            engine = self._waiting.pop((kind, is_rehearsal), None)
        if engine is not None and engine.status() is None:
            return engine
        return self._start(kind, is_rehearsal, is_urgent)

    def prepare(self, kind: str, *, is_rehearsal: bool = False) -> None:
        """Keep a process waiting."""
        with self._lock:
            before = self._waiting.get((kind, is_rehearsal))
            if (before is None or before.status() is not None) and not self._is_closed:
                self._waiting[kind, is_rehearsal] = self._start(kind, is_rehearsal)

    def _start(self, kind: str, is_rehearsal: bool, is_urgent: bool = False) -> EngineProcess:
        if self._is_closed:
            raise EngineFailure("the server ends")
        path, names = self._runtime / f"e{next(self._numbers)}", {"is_rehearsal": is_rehearsal, "is_urgent": is_urgent}
        return self._starter.submit(EngineProcess, kind, path, self._threads, self._limits, **names).result()

    def close(self) -> None:
        """End the waiting processes."""
        with self._lock:
            self._is_closed = True
            for engine in self._waiting.values():
                with contextlib.suppress(OSError):
                    engine.kill()
            self._waiting.clear()


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
    return {**plain, "TF_CPP_MIN_LOG_LEVEL": "3", "OMP_WAIT_POLICY": "PASSIVE"}
