"""``python -m saman.launcher.node.triad OUT.json``: measures how many bytes per second the memory of this node moves.

A triad like that of STREAM (McCalpin, 1995), a = b + s · c, by threads on their own arrays: numpy lets go of the
interpreter meanwhile. The arrays together exceed the last cache four times, as STREAM's rules ask.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import numpy as np

from saman.launcher.node.machine import allowed_cores, memory_bytes
from saman.runs.files.whole import write_json

_REPEATS = 10
_LEAST_SHARE = 0.9  # of a core: below, other programs ran meanwhile, and the rate is theirs too
_LEAST_BYTES, _MOST_BYTES = 48 << 20, 256 << 20  # of an array
_ARRAYS_MOVED = 5  # multiply reads c and writes a; add reads a and b and writes a
_CACHE = Path("/sys/devices/system/cpu/cpu0/cache")


def measure(
    counts: list[int], array_bytes: int, repeats: int = _REPEATS, least_share: float = _LEAST_SHARE
) -> dict[int, float]:
    """Bytes per second that so many cores move together: the best of the repeats, as STREAM reports.

    Args:
        counts: Numbers of cores at work.
        array_bytes: Bytes of each of the three arrays of a core.
        repeats: Triads of each count.
        least_share: Repeats in which a thread had less of a core do not count.

    Returns:
        The rate of each count; without the counts for which no repeat counts.
    """
    found = {count: [_rate(count, array_bytes) for _ in range(repeats)] for count in counts}
    alone = {count: [rate for rate, share in rates if share >= least_share] for count, rates in found.items()}
    return {count: max(rates) for count, rates in alone.items() if rates}


def _rate(count: int, array_bytes: int) -> tuple[float, float]:
    """Bytes per second of a triad on so many cores, and the least share of a core that a thread had."""
    length = array_bytes // 8
    arrays = [tuple(np.full(length, value) for value in (0.0, 1.0, 2.0)) for _ in range(count)]
    start, spans, shares = threading.Barrier(count), [(0.0, 0.0)] * count, [0.0] * count

    def work(index: int) -> None:
        a, b, c = arrays[index]
        start.wait()
        began, used = time.perf_counter(), time.thread_time()
        np.multiply(c, 3.0, out=a)
        np.add(a, b, out=a)
        spans[index] = (began, time.perf_counter())
        shares[index] = (time.thread_time() - used) / max(1e-9, spans[index][1] - began)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = max(end for _, end in spans) - min(began for began, _ in spans)
    return _ARRAYS_MOVED * length * 8 * count / seconds, min(shares)


def core_counts(cores: int) -> list[int]:
    """1, 2, 4 … and all cores.

    >>> core_counts(6)
    [1, 2, 4, 6]
    """
    powers = [2**power for power in range(cores.bit_length()) if 2**power < cores]
    return [*powers, cores]


def array_bytes(cores: int) -> int:
    """Bytes of an array: of all cores together at least four times the last cache, and little of the memory."""
    share = (memory_bytes() or _MOST_BYTES * 24) // (8 * 3 * cores)
    return min(max(4 * _last_cache_bytes() // 3, _LEAST_BYTES), _MOST_BYTES, share)


def _last_cache_bytes() -> int:
    """Bytes of the last cache; 0 where the kernel does not say."""
    sizes = []
    for file in _CACHE.glob("index*/size"):
        text = file.read_text().strip()
        if text.endswith("K") and text[:-1].isdigit():
            sizes.append(int(text[:-1]) << 10)
    return max(sizes, default=0)


def main(arguments: list[str]) -> int:
    """Measure the node's memory bandwidth and write it; exit status 1 if other programs kept the cores busy."""
    cores = len(allowed_cores())
    found = measure(core_counts(cores), array_bytes(cores))
    if len(found) < len(core_counts(cores)):
        print("other programs use the cores; it is measured before the next study", file=sys.stderr)
        return 1
    write_json(Path(arguments[0]), {"cores": list(found), "bytes_per_second": list(found.values())})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
