"""Seconds per Horovod allreduce as `saman run` starts it: over MPI that polls, over MPI that yields, over Gloo.

    python benchmarks/launcher/allreduce.py [RANKS] [ROUNDS]        (2 ranks, 5 rounds: about 2 minutes on 2 cores)

Each round starts every way once, in turn. A figure is the median over rounds of medians over repetitions, with the
smallest and largest round. Ratios are taken within a round, because the load of the machine differs between rounds.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

YIELD = "launch.environment.OMPI_MCA_mpi_yield_when_idle"
WAYS = {
    "MPI, polling": ("launch.with=mpirun", f'{YIELD}="0"', 'launch.environment.I_MPI_THREAD_YIELD="0"'),
    "MPI, yielding": ("launch.with=mpirun",),
    "Gloo": ("launch.with=processes",),
}
SIZES = {"1 KB": 1 << 10, "1 MB": 1 << 20, "16 MB": 16 << 20}
BASE = "MPI, yielding"


def on_rank() -> None:
    """Measure on a rank; the chief prints the seconds per allreduce of each size."""
    import time

    import horovod.tensorflow as hvd
    import tensorflow as tf

    hvd.init()
    found = []
    for size in SIZES.values():
        tensor, seconds = tf.random.normal([size // 4]), []
        for _ in range(50 if size < 1 << 22 else 25):
            began = time.perf_counter()
            hvd.allreduce(tensor, op=hvd.Sum, name=f"of {size} bytes").numpy()
            seconds.append(time.perf_counter() - began)
        found.append(median(seconds[5:]))
    if hvd.rank() == 0:
        print("seconds", json.dumps(found), flush=True)


def measure(way: str, ranks: int, folder: str) -> list[float]:
    """Start the ranks once; return the seconds per allreduce of each size."""
    saman = [sys.executable, "-m", "saman", "run", "-np", str(ranks), "--runs-dir", folder, *WAYS[way]]
    command = [*saman, "--", sys.executable, str(Path(__file__).resolve()), "rank"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = [line for line in done.stdout.splitlines() if line.startswith("seconds ")]
    if done.returncode or not told:
        sys.exit(done.stdout + done.stderr)
    return list(json.loads(told[0].removeprefix("seconds ")))


def main(ranks: int = 2, rounds: int = 5) -> None:
    """Measure every way in turn and print the table."""
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            names = list(WAYS)
            for way in names[number % len(names) :] + names[: number % len(names)]:
                found[way].append(measure(way, ranks, folder))
    print(f"{ranks} ranks, {rounds} rounds: ms per allreduce (smallest – largest), ratio to {BASE}")
    print("| | " + " | ".join(SIZES) + " |\n|---|" + "---|" * len(SIZES))
    for way, rows in found.items():
        cells = []
        for at in range(len(SIZES)):
            each = [row[at] * 1e3 for row in rows]
            ratio = median(row[at] / base[at] for row, base in zip(rows, found[BASE], strict=True))
            cells.append(f"{median(each):.2f} ({min(each):.2f} – {max(each):.2f}), × {ratio:.2f}")
        print(f"| {way} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["rank"]:
        on_rank()
    else:
        main(*map(int, sys.argv[1:3]))
