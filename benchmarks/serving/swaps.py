"""Swaps under load: errors, the effect of each promotion, and p99 beside that of steady traffic.

``python benchmarks/serving/swaps.py [--swaps 50] [--requests 100000] [--clients 16]`` (``make swaps``). Two versions of
the small CNN are loaded; ``stable`` moves between them at even intervals while clients ask without a pause. With
``--versions 7`` it moves through all versions but the newest, and no version is loaded when it is promoted.
``--rate 1000`` asks as often in a second and leaves the cores time to breathe; the moves spread over ``--requests``.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from load import measure, p99_of
from versus_triton import make_models, memory_megabytes, requests_of_both, wait_for

from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.publish import publish

_LATEST_SECONDS = 60.0


def publish_versions(folder: Path, count: int) -> Path:
    """Publish versions of the CNN with different weights; returns the registry."""
    from tests.registry.registry_kit import finished_run

    saved = make_models(folder, count)
    for number in range(count):
        run = finished_run(folder / f"run-{number}", model="cnn")
        shutil.rmtree(run.export / "saved_model")
        shutil.copytree(saved[number], run.export / "saved_model")
        np.savez(run.export / "validation.npz", inputs=np.zeros((64, 28, 28), "float32"), labels=np.zeros(64, int))
        publish(run, folder / "models")
    return folder / "models"


def default_version(port: int) -> int:
    """The version that answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/cnn/metadata", timeout=60) as answer:
        return int(json.load(answer)["model_spec"]["version"])


def swap(models: Path, port: int, count: int, pause: float, numbers: Sequence[int]) -> list[float]:
    """Move ``stable`` ``count`` times through ``numbers``; returns the seconds until each move is in effect."""
    effects = []
    for change in range(count):
        time.sleep(pause)
        number = numbers[change % len(numbers)]
        began = time.monotonic()
        promote(models, f"cnn:{number}")
        while default_version(port) != number and time.monotonic() - began < _LATEST_SECONDS:
            time.sleep(0.02)
        effects.append(time.monotonic() - began)
    return effects


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--swaps", type=int, default=50)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second; 0: as fast as answers come")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between moves; 0: spread over the requests")
    parser.add_argument("--versions", type=int, default=2, help="5 or more: versions that are not loaded")
    parser.add_argument("--engine", default="openvino")
    parser.add_argument("--port", type=int, default=18511)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="saman-"))
    models = publish_versions(folder, options.versions)
    promote(models, "cnn:1")
    if options.versions == 2:
        promote(models, "cnn:2", "canary")
    numbers = (2, 1) if options.versions == 2 else [*range(2, options.versions), 1]
    server = subprocess.Popen(
        [sys.executable, "-m", "saman", "serve", "cnn", "--models-dir", str(models), "--engine", options.engine,
         "--port", str(options.port), "--grpc-port", "0"], stdout=subprocess.DEVNULL)  # fmt: skip
    try:
        wait_for(f"http://127.0.0.1:{options.port}/healthz", server)
        request = requests_of_both()["saman REST"]
        measure(options.port, request, options.clients, 1.0)
        before = memory_megabytes(server.pid)
        steady = [measure(options.port, request, options.clients, 5.0, options.rate)]
        seconds = max(options.requests / steady[0].requests_per_second, 0.2 * options.swaps)
        pause = options.pause or 0.7 * seconds / options.swaps
        found = []
        # A process of its own: a thread would hold up the clients, which share Python's lock with it.
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            moves = pool.submit(swap, models, options.port, options.swaps, pause, numbers)
            while not moves.done() or sum(each.requests for each in found) < options.requests:
                found.append(measure(options.port, request, options.clients, 2.0, options.rate))
            effects = moves.result()
        time.sleep(1.0)
        steady.append(measure(options.port, request, options.clients, 5.0, options.rate))  # the machine may change
        errors, asked = sum(each.errors for each in found), sum(each.requests for each in found)
        print(f"{asked} requests, {len(effects)} swaps, {errors} errors")
        print(f"effect of a swap: median {statistics.median(effects):.2f} s, latest {max(effects):.2f} s")
        before_and_after, meanwhile = p99_of(steady), p99_of(found)
        print(
            f"p99 steady {before_and_after:.1f} ms, meanwhile {meanwhile:.1f} ms ({meanwhile / before_and_after:.2f} ×)"
        )
        print(
            f"memory {before:.0f} MB before, {memory_megabytes(server.pid):.0f} MB after; load {os.getloadavg()[0]:.1f}"
        )
        return int(errors > 0)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
