"""Front processes as the supervisor sees them."""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from saman.configs.errors import EnvironmentLack
from saman.runs.commands import CommandLog
from saman.serving.front.table import FrontSettings, ServingTable

_ANSWER_SECONDS = 20.0


class FrontHandle:
    """A front process.

    Args:
        settings: What it is told at its start.
        reload: Called from a thread when a client asks for a reload; returns the problem, empty for none.
        drained: Called from a thread with the number of a table when only its engines are still in use.
    """

    def __init__(self, settings: FrontSettings, reload: Callable[[], str], drained: Callable[[int], None]) -> None:
        command = [sys.executable, "-m", "saman.serving.front"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(settings.rest_socket,)
        )
        self._log, self._reload, self._drained = CommandLog(command, self._process.pid), reload, drained
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._writing = threading.Lock()
        self.is_ready = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        self._write(settings.to_json())

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def status(self) -> int | None:
        """The exit status; ``None`` while it runs."""
        return self._process.poll()

    def wait_until_ready(self) -> None:
        """Wait until it listens; raises ``EnvironmentLack`` if it ends before."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while not self.is_ready.wait(0.02):
            if self.status() is not None or time.monotonic() > deadline:
                problem = f"a front did not start (exit status {self.status()})"
                raise EnvironmentLack(problem, remedy="its message is above; is the port of gRPC taken? --grpc-port")

    def prepare(self, table: ServingTable, number: int) -> Callable[[], str]:
        """Have it connect to the engines of a table.

        Returns:
            What waits for its answer, so that fronts prepare beside each other: the problem, empty for none.
        """
        self._write({"do": "prepare", "number": number, "table": table.to_json()})
        return lambda: self._wait_for("prepare", number)

    def use(self, number: int) -> str:
        """Have it exchange the table, then close what the table does not name; returns the problem."""
        self._write({"do": "use", "number": number})
        problem = self._wait_for("use", number)
        self._write({"do": "drain", "number": number})
        return problem

    def _wait_for(self, done: str, number: int) -> str:
        deadline = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < deadline:
            try:
                answer = self._answers.get(timeout=0.1)
            except queue.Empty:
                if self.status() is not None:
                    return "the front ended"
                continue
            if (answer["done"], answer["number"]) == (done, number):
                return str(answer["problem"])
        return "the front did not answer"

    def _write(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with self._writing, contextlib.suppress(OSError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            fact = json.loads(line)
            if "listening" in fact:
                self.is_ready.set()
            elif "ask" in fact:
                threading.Thread(target=self._answer_reload, daemon=True).start()
            elif fact["done"] == "drain":
                self._drained(int(fact["number"]))
            else:
                self._answers.put(fact)

    def _answer_reload(self) -> None:
        self._write({"do": "reloaded", "problem": self._reload()})

    def end(self) -> None:
        """Ask it to answer what has arrived, and to end."""
        if self._process.poll() is None:
            self._process.terminate()

    def wait(self, seconds: float) -> None:
        """Wait for its end; after ``seconds`` it is killed."""
        try:
            status = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        self._log.end(status)
