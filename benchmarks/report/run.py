"""Times ``saman report`` over 10,000 runs of 1,000 windows each: ``python benchmarks/report/run.py [--keep FOLDER]``.

50 series of 5 rank counts, 40 repeats; 10 million records. Prints seconds and peak memory beside their targets.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from synthetic import Made, curve, write_runs

TARGET_SECONDS, TARGET_GIB = 60.0, 2.0
COUNTS = (1, 2, 4, 8, 16)


def runs(series: int, repeats: int, windows: int) -> list[Made]:
    """The runs of ``series`` curves that differ in strategy and in a setting."""
    found = []
    for index in range(series):
        settings = (("hidden", 64 * (1 + index // 4)),)
        strategy = ("horovod", "multi_worker", "mirrored", "pipeline")[index % 4]
        base = Made(strategy=strategy, step_seconds=0.8 + 0.01 * index, settings=settings, windows=windows, processes=1)
        found += curve(base, COUNTS, 0.01 + 0.002 * index, repeats)
    return [replace(made, noise=0.01) for made in found]


def main() -> None:
    """Generate, report, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--series", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument("--keep", type=Path, help="write runs and report here and leave them")
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its byte code
    with tempfile.TemporaryDirectory(prefix="saman-benchmark-") as temporary:
        folder = asked.keep or Path(temporary)
        if not (folder / "runs" / "made").is_dir():
            start = time.perf_counter()
            written = write_runs(folder / "runs" / "made", runs(asked.series, asked.repeats, asked.windows))
            print(f"generated {len(written)} runs in {time.perf_counter() - start:.0f} s")
        start = time.perf_counter()
        command = [sys.executable, "-m", "saman", "report", "made", "--runs-dir", str(folder / "runs")]
        done = subprocess.run([*command, "-o", str(folder / "report")], capture_output=True, text=True)
        seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    memory, processor = used.ru_maxrss / 2**20, used.ru_utime + used.ru_stime
    if done.returncode not in (0, 1):
        sys.exit(done.stderr)
    met = seconds < TARGET_SECONDS and memory < TARGET_GIB
    load = os.getloadavg()[0]  # far above 2, the seconds are those of a busy machine and the processor's tell more
    facts = {
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "load": round(load, 1),
        "peak_GiB": round(memory, 2),
        "targets": [TARGET_SECONDS, TARGET_GIB],
    }
    print(done.stdout[:600])
    print(json.dumps({**facts, "met": met}))


if __name__ == "__main__":
    main()
