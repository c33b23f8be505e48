"""The client at scale: plan and submit a study, `status` of its runs, a report over 1,000 runs; one table.

    python benchmarks/client/study.py [--short] [--runs 1000,3000,10000]

Stubs stand for Slurm and answer at once, so the figures are saman's own. Each command is a process of its own and
counts from its start to its end, Python's start included; the time per run beyond the smallest study is the slope. A
study varies a setting over 1,000 values; repeats make up the rest. The status of a study is that of completed runs,
the most files to read.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "report"))
from synthetic import Made, curve, write_runs

VALUES = 1000  # of the varied setting
REPORT_RUNS = 1000
TARGETS = {"submit": "≤ 2 ms a run", "status": "≤ 2 s at 10,000", "report": "≤ 3 s at 1,000"}
SQUEUE = 'awk \'BEGIN { for (i = 0; i < 10000; i++) print "7_" i "|RUNNING|N/A|N/A|n1|main|None|big" }\''
STUBS = {
    "sbatch": "echo 7",
    "squeue": SQUEUE,
    "sacct": "",
    "scontrol": "echo MaxArraySize = 20000",
    "sacctmgr": "",
    "sshare": "",
}
CLUSTER = "name: here\npartitions:\n  - {name: main, cores_per_node: 64, memory_per_node: 180G}\n"


def study(runs: int) -> str:
    """A study of ``runs`` runs."""
    values = min(runs, VALUES)
    rates = ", ".join(f"0.{index + 1:05d}" for index in range(values))
    return (
        "name: big\nexperiment: quickstart\nscaling: strong\n"
        f"set: {{strategy: horovod}}\naxes:\n  train.learning_rate.base: [{rates}]\nrepeats: {runs // values}\n"
    )


def environment(folder: Path) -> dict[str, str]:
    """The variables of a command: the stubs come first on PATH."""
    stubs = folder / "stubs"
    stubs.mkdir()
    for name, text in STUBS.items():
        (stubs / name).write_text(f"#!/bin/sh\n{text}\n")
        (stubs / name).chmod(0o755)
    return {**os.environ, "PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}"}


def timed(folder: Path, environ: dict[str, str], *arguments: str) -> tuple[float, float]:
    """Elapsed and processor seconds of a saman command."""
    before, began = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "saman", *arguments]
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True)
    seconds, after = time.perf_counter() - began, os.times()
    if done.returncode not in (0, 1) or "Traceback" in done.stderr:
        sys.exit(f"{' '.join(arguments)}: {done.stderr or done.stdout}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, used


def end(runs: Path) -> None:
    """Complete every run as a supervisor would: an attempt, its end, its summary."""
    for run in runs.glob("*/events.jsonl"):
        when = time.time()
        lines = [{"kind": "attempt_started", "attempt": 1, "host": "n1", "ranks": 2}, {"kind": "completed"}]
        with run.open("a") as file:
            for line in lines:
                file.write(json.dumps({"schema": 1, "time": when, "who": "supervisor", **line}) + "\n")
        (run.parent / "attempts" / "1").mkdir()
        summary = {"schema": 1, "state": "completed", "seconds": 100.0, "metrics": {"val_accuracy": 0.9}}
        (run.parent / "summary.json").write_text(json.dumps(summary))


def measure(runs: int, rows: list[tuple[str, int, float, float]]) -> None:
    """Measure the commands with a study of ``runs`` runs."""
    with tempfile.TemporaryDirectory(prefix="saman-client-") as temporary:
        folder = Path(temporary)
        environ = environment(folder)
        (folder / "big.yaml").write_text(study(runs))
        (folder / "here.yaml").write_text(CLUSTER)
        submit = ("study", "big.yaml", "-c", "./here.yaml")
        rows.append(("plan (study --dry-run)", runs, *timed(folder, environ, "study", "big.yaml", "--dry-run")))
        rows.append(("submit", runs, *timed(folder, environ, *submit)))
        rows.append(("status, running", runs, *timed(folder, environ, "status", "big")))
        end(folder / "runs" / "big")
        rows.append(("status, completed", runs, *timed(folder, environ, "status", "big")))
        rows.append(("submit again (nothing to do)", runs, *timed(folder, environ, *submit)))


def report(runs: int, rows: list[tuple[str, int, float, float]]) -> None:
    """Measure a report over ``runs`` runs of 30 windows and two rank counts."""
    with tempfile.TemporaryDirectory(prefix="saman-client-") as temporary:
        folder = Path(temporary)
        made = [one for index in range(10) for one in _series(index, runs // 20)]
        write_runs(folder / "runs" / "made", made)
        rows.append(("report", runs, *timed(folder, dict(os.environ), "report", "made", "-o", "report")))
        shutil.rmtree(folder / "report", ignore_errors=True)


def _series(index: int, repeats: int) -> list[Made]:
    base = Made(settings=(("hidden", 64 * (1 + index)),), step_seconds=0.8 + 0.01 * index, windows=30)
    return curve(base, (1, 2), 0.01 + 0.002 * index, repeats)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="300 and 1,000 runs, and a report over 200")
    parser.add_argument("--runs", default="1000,3000,10000", help="numbers of runs, comma-separated")
    asked = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its byte code
    counts = [300, 1000] if asked.short else [int(text) for text in asked.runs.split(",")]
    rows: list[tuple[str, int, float, float]] = []
    for runs in counts:
        measure(runs, rows)
    for runs in (100, 200) if asked.short else (200, REPORT_RUNS):
        report(runs, rows)
    print(f"| command | runs | seconds | processor seconds | ms per run |\n|---|{'---|' * 4}")
    for name, runs, seconds, used in rows:
        print(f"| {name} | {runs:,} | {seconds:.2f} | {used:.2f} | {seconds / runs * 1000:.2f} |")
    print(f"targets: {'; '.join(f'{name} {text}' for name, text in TARGETS.items())}")


if __name__ == "__main__":
    main()
