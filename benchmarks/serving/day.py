"""A day in short: millions of requests in 24 "hours", with a promotion every hour and a killed engine every sixth.

``python benchmarks/serving/day.py [--requests 10000000] [--clients 16]`` (``make serve-day``). Prints the memory of all
processes and p99 after each hour; fails on an error, or where memory grows by more than ``--growth`` megabytes: the
most of the last 12 hours beside the most of hours 2 to 6, when every version has been loaded.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kills import descendants
from load import measure
from swaps import default_version, publish_versions
from versus_triton import memory_megabytes, requests_of_both, wait_for

from saman.registry.lifecycle.promotion import promote

HOURS = 24
_SETTLING_SECONDS = 1.0  # the version before has left, and processes wait again


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--growth", type=float, default=60.0, help="megabytes")
    parser.add_argument("--port", type=int, default=18551)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="saman-"))
    models = publish_versions(folder, 5)
    promote(models, "cnn:1")
    server = subprocess.Popen(
        [sys.executable, "-m", "saman", "serve", "cnn", "--models-dir", str(models), "--engine", "openvino",
         "--port", str(options.port), "--grpc-port", "0"], stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{options.port}/healthz", server)
        request = requests_of_both()["saman REST"]
        began, asked, errors, memory = time.monotonic(), 0, 0, []
        for hour in range(1, HOURS + 1):
            promote(models, f"cnn:{hour % 4 + 1}")
            if hour % 6 == 0:
                engines = [pid for pid, text in descendants(server.pid) if "saman-engine" in text]
                os.kill(engines[0], signal.SIGKILL)
            while asked < options.requests * hour // HOURS:
                found = measure(options.port, request, options.clients, min(2.0, options.requests / 1e5))
                asked, errors = asked + found.requests, errors + found.errors
            while default_version(options.port) != hour % 4 + 1:
                time.sleep(0.1)
            time.sleep(_SETTLING_SECONDS)
            memory.append(memory_megabytes(server.pid))
            facts = f"{asked} requests, {errors} errors, p99 {found.p99:.1f} ms, {memory[-1]:.0f} MB"
            print(f"hour {hour}: {facts}", flush=True)
        grown = max(memory[HOURS // 2 :]) - max(memory[1:6])
        print(f"{asked} requests in {time.monotonic() - began:.0f} s, {errors} errors, memory grew by {grown:.0f} MB")
        return int(errors > 0 or grown > options.growth)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
