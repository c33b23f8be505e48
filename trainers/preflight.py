"""``python -m saman.trainers.preflight FOLDER``: measures this rank before a long run and writes a record of it.

Bus bandwidth is that of nccl-tests: bytes ÷ seconds × 2 (n − 1) / n for an allreduce over n ranks.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from saman.runs import variables
from saman.runs.ranks.identity import node_name
from saman.runs.records.preflight import RankMeasurement

SIZES_BYTES = (1 << 20, 16 << 20)
REPEATS = 7


def main(folder: Path) -> int:
    """Measure this rank for ``saman preflight``, and write the record; all ranks call it together."""
    began = float(os.environ.get(variables.PREFLIGHT_BEGAN) or time.time())
    import horovod.tensorflow as hvd
    import numpy as np

    hvd.init(process_sets="dynamic")
    ready = time.time()
    node = os.environ.get(variables.NODE) or node_name(os.environ)
    ranks_here, process_set = _join_node(hvd, node)
    measurement = RankMeasurement(
        node=node,
        rank=hvd.rank(),
        size=hvd.size(),
        start_seconds=ready - began,
        clock_offset_seconds=_clock_offset(hvd),
        matmul_seconds=_matmul_seconds(np),
        bus_bytes_per_second=_bandwidths(hvd, hvd.size()),
        node_bus_bytes_per_second={} if process_set is None else _bandwidths(hvd, ranks_here, process_set=process_set),
    )
    folder.mkdir(parents=True, exist_ok=True)
    measurement.write(folder)
    _barrier(hvd)
    hvd.shutdown()
    return 0


def _join_node(hvd: Any, node: str) -> tuple[int, Any]:
    """Return the number of ranks on this node and their process set; ``None`` for a single node or a single rank."""
    nodes = hvd.allgather_object(node)
    groups = {name: [rank for rank, of in enumerate(nodes) if of == name] for name in dict.fromkeys(nodes)}
    own = None
    if len(groups) > 1:
        for name, ranks in groups.items():
            if len(ranks) > 1:  # every rank creates every process set
                process_set = hvd.add_process_set(ranks)
                own = process_set if name == node else own
    return len(groups[node]), own


def _bandwidths(hvd: Any, ranks: int, **where: Any) -> dict[int, float]:
    """Return bus bytes per second by the bytes of a message; empty for a single rank."""
    return {size: _bandwidth(hvd, size, ranks, **where) for size in SIZES_BYTES if ranks > 1}


def _bandwidth(hvd: Any, size: int, ranks: int, **where: Any) -> float:
    import tensorflow as tf

    data = tf.ones(size // 4)
    name = f"preflight.{size}.{ranks}"
    seconds = _median_seconds(lambda: hvd.allreduce(data, op=hvd.Sum, name=name, **where).numpy())
    return size / seconds * 2 * (ranks - 1) / ranks


def _median_seconds(action: Callable[[], Any]) -> float:
    action()
    seconds = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def _barrier(hvd: Any) -> None:
    """Wait for all ranks; ``horovod.tensorflow`` has no barrier."""
    import tensorflow as tf

    hvd.allreduce(tf.zeros(1), op=hvd.Sum, name="preflight.barrier").numpy()


def _clock_offset(hvd: Any) -> float:
    """Return this clock minus rank 0's, read right after the same barrier: the median of several readings."""
    offsets = []
    for _ in range(REPEATS):
        _barrier(hvd)
        now = time.time()
        offsets.append(now - hvd.broadcast_object(now, root_rank=0))
    return median(offsets)


def _matmul_seconds(np: Any) -> float:
    square = np.random.default_rng(0).random((512, 512), dtype=np.float32)
    return _median_seconds(lambda: square @ square)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
