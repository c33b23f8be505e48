"""``python -m saman.trainers.preflight FOLDER``: what one rank measures before a long run; one JSON file per rank.

Bus bandwidth is that of nccl-tests: bytes ÷ seconds × 2 (n − 1) / n for an allreduce over n ranks.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from saman.configs.files import write_json
from saman.runs import variables

SIZES_BYTES = (1 << 20, 16 << 20)
REPEATS = 7


def main(folder: Path) -> int:
    """Measure, and write ``rank-<n>.json`` into ``folder``."""
    began = float(os.environ.get(variables.PREFLIGHT_BEGAN) or time.time())
    import horovod.tensorflow as hvd
    import numpy as np
    import tensorflow as tf

    hvd.init(process_sets="dynamic")
    ready = time.time()
    mine = os.environ.get(variables.NODE) or os.environ.get("SLURMD_NODENAME") or socket.gethostname()
    nodes = hvd.allgather_object(mine)
    groups = [[rank for rank, node in enumerate(nodes) if node == one] for one in dict.fromkeys(nodes)]
    within = None
    if len(groups) > 1:
        for group in groups:
            if len(group) > 1:
                made = hvd.add_process_set(group)
                within = made if hvd.rank() in group else within

    def barrier() -> None:  # horovod.tensorflow has none
        hvd.allreduce(tf.zeros(1), op=hvd.Sum, name="preflight.barrier").numpy()

    def bandwidth(size: int, ranks: int, **where: Any) -> float:
        data = tf.ones(size // 4)
        seconds = _median(lambda: hvd.allreduce(data, op=hvd.Sum, name=f"preflight.{size}.{ranks}", **where).numpy())
        return size / seconds * 2 * (ranks - 1) / ranks

    facts: dict[str, Any] = {
        "schema": 1,
        "rank": hvd.rank(),
        "size": hvd.size(),
        "node": mine,
        "start_seconds": ready - began,
        "clock_offset_seconds": _clock_offset(hvd, barrier),
        "matmul_seconds": _matmul(np),
        "bus_bytes_per_second": {str(size): bandwidth(size, hvd.size()) for size in SIZES_BYTES if hvd.size() > 1},
    }
    if within is not None:
        group = next(group for group in groups if hvd.rank() in group)
        facts["node_bus_bytes_per_second"] = {
            str(size): bandwidth(size, len(group), process_set=within) for size in SIZES_BYTES
        }
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"rank-{hvd.rank():05d}.json", facts)
    barrier()
    hvd.shutdown()
    return 0


def _median(action: Callable[[], Any]) -> float:
    action()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        action()
        taken.append(time.perf_counter() - began)
    return median(taken)


def _clock_offset(hvd: Any, barrier: Callable[[], None]) -> float:
    """This clock minus rank 0's, as read right after the same barrier; the median of several."""
    found = []
    for _ in range(REPEATS):
        barrier()
        now = time.time()
        found.append(now - hvd.broadcast_object(now, root_rank=0))
    return median(found)


def _matmul(np: Any) -> float:
    square = np.random.default_rng(0).random((512, 512), dtype=np.float32)
    return _median(lambda: square @ square)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
