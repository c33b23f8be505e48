"""How long a server answers nobody after everything below its supervisor is killed at once.

``python benchmarks/serving/kills.py [--rounds 5]``. SIGKILL for all fronts, engines and processes that wait; then the
first answer to a new connection counts. Rows: a front alone, all engines, everything.
"""

from __future__ import annotations

import argparse
import http.client
import os
import shutil
import signal
import statistics
import tempfile
import time
from pathlib import Path

from versus_triton import make_models, requests_of_both, start_saman

KINDS = {
    "a front": lambda lines: [pid for pid, text in lines if "serving.front" in text][:1],
    "all engines": lambda lines: [pid for pid, text in lines if "serving.engines" in text],
    "everything": lambda lines: [pid for pid, _ in lines],
}


def descendants(ancestor: int) -> list[tuple[int, str]]:
    """The processes below a server, oldest first, and their command lines and names."""
    parents, texts = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                texts[int(entry.name)] = "".join((entry / name).read_text() for name in ("cmdline", "comm"))
            except OSError:
                continue
    below = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in below and pid not in below}:
        below |= more
    return sorted((pid, texts.get(pid, "")) for pid in below - {ancestor})


def seconds_to_answer(port: int, body: bytes) -> float:
    """Ask until there is an answer."""
    began = time.monotonic()
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        try:
            connection.request("POST", "/v1/models/cnn:predict", body)
            if connection.getresponse().status == 200:
                return time.monotonic() - began
        except (OSError, http.client.HTTPException):
            time.sleep(0.005)
        finally:
            connection.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--port", type=int, default=18541)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="saman-"))
    server = start_saman(folder, make_models(folder, 1)[0], options.port)
    body = requests_of_both()["saman REST"].partition(b"\r\n\r\n")[2]
    try:
        for name, choose in KINDS.items():
            found = []
            for _ in range(options.rounds):
                time.sleep(4.0)  # processes that wait are there again
                for pid in choose(descendants(server.pid)):
                    os.kill(pid, signal.SIGKILL)
                found.append(seconds_to_answer(options.port, body))
            print(f"{name}: median {statistics.median(found):.2f} s, longest {max(found):.2f} s")
        print(f"load of the machine: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
