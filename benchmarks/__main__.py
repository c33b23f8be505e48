"""Runs the short versions of the benchmarks, one after the other: ``python benchmarks [WORD]...``, or ``make bench``.

With words, those whose path contains one of them. ``--list`` shows the list. docs/performance.md is the table of
contents: what each measures, and what it found.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
MOST_SECONDS = 240  # of a benchmark; all together take less than 15 minutes on two idle cores
# The program and the arguments of its short version.
PROGRAMS = [
    "training/input.py --short",
    "training/step.py --short",
    "training/step.py --short --models cnn --contenders mirrored,horovod,multi_worker",
    "training/parts.py --short",
    "training/parts.py --parts exchange --models cnn --ranks 2 --turns 20",
    "training/checkpoints.py --short",
    "training/memory.py --short",
    "launcher/start.py --short",
    "launcher/help.py 5",
    "launcher/allreduce.py 2 1",
    "launcher/nodes.py --short",
    "launcher/shared_files.py --short",
    "client/study.py --short",
    "report/run.py --series 4 --repeats 10 --windows 100",
    "pipeline/speed.py --steps 4 --repeats 1 --micro-batches 4",
]
# Not in the list: they need a start method or a cluster of their own, or minutes at least.
LONG = [
    "elastic/kills.py", "elastic/picture.py", "pipeline/transport.py", "serving/versus_triton.py", "serving/swaps.py",
    "serving/designs.py", "serving/kills.py", "serving/day.py", "registry/parity.py", "launcher/staging.py",
    "launcher/autotune.py",
]  # fmt: skip


def main(words: list[str]) -> int:
    """Run them; return the number of those that failed."""
    chosen = [line for line in PROGRAMS if not words or any(word in line.split()[0] for word in words)]
    if words == ["--list"]:
        print("\n".join(PROGRAMS))
        return 0
    began, failed = time.monotonic(), []
    for number, line in enumerate(chosen, 1):
        print(f"\n## {number} of {len(chosen)}: python benchmarks/{line}", flush=True)
        if not _passes(line.split()):
            failed.append(line)
    print(f"\n{len(chosen)} benchmarks took {(time.monotonic() - began) / 60:.1f} minutes", flush=True)
    for line in failed:
        print(f"failed: python benchmarks/{line}")
    return len(failed)


def _passes(command: list[str]) -> bool:
    """Whether the benchmark ran to its end within its time; shows what it prints to its standard output."""
    program, *arguments = command
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        [sys.executable, str(HERE / program), *arguments],
        cwd=HERE.parent,
        env={**os.environ, **quiet},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, errors = process.communicate(timeout=MOST_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)
            _, errors = process.communicate()
            print(f"ended after {MOST_SECONDS} s")
    if process.returncode:
        print(errors[-2000:], file=sys.stderr)
    return process.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
