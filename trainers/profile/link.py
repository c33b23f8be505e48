"""Latency and bandwidth of the stages' sockets within this machine."""

from __future__ import annotations

import statistics
import time

import numpy as np

from saman.pipeline.chain import Link
from saman.trainers.pipeline.sockets import SocketTransport, connected_pair

SMALL_BYTES, LARGE_BYTES, REPEATS = 64, 4 << 20, 15


def measure_link() -> Link:
    """Measure messages of two sizes between two ends in this process."""
    sender, receiver = (SocketTransport({0: connection}) for connection in connected_pair())

    def seconds(size: int) -> float:
        array = np.zeros(size, np.uint8)
        times = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            sender.send(0, 0, [array])
            receiver.receive(0, 0)
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    small, large = seconds(SMALL_BYTES), seconds(LARGE_BYTES)
    sender.close()
    receiver.close()
    return Link(small, LARGE_BYTES / max(1e-9, large - small))
