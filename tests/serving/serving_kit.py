"""A live server for tests, asked with Python's own HTTP client."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = 120.0  # seconds; on a machine that is five times slower too


class LiveServer:
    """``saman serve`` in a process of its own."""

    def __init__(self, models_dir: Path, *arguments: str) -> None:
        command = [sys.executable, "-m", "saman", "serve", *arguments, "--models-dir", str(models_dir)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", "--grpc-port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        threading.Thread(target=self._read, daemon=True).start()
        self.wait(lambda: self.address() is not None)
        found = self.address()
        assert found is not None, self.lines
        self.port, self.grpc_port = found

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(line.rstrip("\n") for line in iter(self.process.stdout.readline, ""))

    def address(self) -> tuple[int, int] | None:
        found = re.search(r"REST \w+://[^ ]*?:(\d+)/v1/models, gRPC \S*?:(\d+);", "\n".join(list(self.lines)))
        return (int(found[1]), int(found[2])) if found and any("curl" in line for line in self.lines) else None

    def wait(self, holds: Callable[[], Any], what: str = "") -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds():
            assert time.monotonic() < deadline, (what, self.lines)
            assert self.process.poll() is None, self.lines
            time.sleep(0.02)

    def ask(self, method: str, path: str, body: Any = None, headers: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
            connection.request(method, path, data, headers or {})
            answer = connection.getresponse()
            text = answer.read()
            kind = answer.headers.get_content_type()
            return answer.status, json.loads(text) if kind == "application/json" else text.decode()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, Any]:
        return self.ask("GET", path)

    def post(self, path: str, body: Any) -> tuple[int, Any]:
        return self.ask("POST", path, body)

    def default_version(self, model: str = "images") -> int:
        """The version that answers, by its metadata."""
        return int(self.get(f"/v1/models/{model}/metadata")[1]["model_spec"]["version"])

    def descendants(self, word: str) -> list[int]:
        """The processes below the server whose command line or name holds ``word``."""
        parents, texts = {}, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                    texts[int(entry.name)] = "".join((entry / name).read_text() for name in ("cmdline", "comm"))
                except OSError:
                    continue
        below = {self.process.pid}
        while more := {pid for pid, parent in parents.items() if parent in below and pid not in below}:
            below |= more
        return sorted(pid for pid in below - {self.process.pid} if word in texts.get(pid, ""))

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        finally:
            if self.process.poll() is None:
                os.kill(self.process.pid, signal.SIGKILL)


@contextmanager
def live_server(models_dir: Path, *arguments: str) -> Iterator[LiveServer]:
    server = LiveServer(models_dir, *arguments)
    try:
        yield server
    finally:
        server.stop()


def run_client(program: str, packages: Path, *arguments: str) -> Any:
    """What a client in a process of its own prints as JSON."""
    start = "import sys, json\nsys.path.append(sys.argv[1])\n"
    command = [sys.executable, "-c", start + program, str(packages), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
