"""What saman adds before a program begins: `run`, `submit` and `--help` beside their bare counterparts; one table.

    python benchmarks/launcher/start.py [--short] [--pairs 7] [--tensorflow]

Pairs run in turn; the table has medians, and the median of the differences within pairs. A run counts from the command
to the first line of the program on the last of two ranks, and with --tensorflow to the end of a first training step.
Stubs stand for Slurm, so a submission is saman's own time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

PROGRAM = """
import os, sys, time
if sys.argv[2:] == ["step"]:
    import tensorflow as tf
    w = tf.Variable(tf.random.normal([64, 64]))
    @tf.function
    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((w @ w) ** 2)
        w.assign_sub(1e-6 * tape.gradient(loss, w))
        return loss
    step().numpy()
with open(sys.argv[1], "a") as file:
    file.write(f"{time.time()}\\n")
"""
CLUSTER = "name: here\npartitions:\n  - {name: main, cores_per_node: 64, memory_per_node: 180G}\n"
STUBS = {"sbatch": "echo 7", "squeue": "", "sacct": "", "sacctmgr": "", "scontrol": "echo MaxArraySize = 20000"}
SAMAN = (sys.executable, "-m", "saman")


def until_program(command: list[str], stamps: Path, folder: Path) -> float:
    """Seconds from the command to the last rank's stamp."""
    stamps.unlink(missing_ok=True)
    began = time.time()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode or not stamps.exists():
        sys.exit(f"{command}: {done.stderr or done.stdout}")
    return max(map(float, stamps.read_text().split())) - began


def whole(command: list[str], folder: Path) -> float:
    """Seconds of a command."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def pair(name: str, target: str, pairs: int, mine: Callable[[], float], bare: Callable[[], float]) -> None:
    """Measure in turn, after a first run of each that fills the caches, and print a row."""
    mine(), bare()
    rows = [(mine(), bare()) for _ in range(pairs)]
    more = median(own - other for own, other in rows)
    own, other = (median(column) for column in zip(*rows, strict=True))
    print(f"| {name} | {own:.2f} s | {other:.2f} s | {more:+.2f} s | {own / other:.2f} | {target} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="3 pairs")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--tensorflow", action="store_true", help="count a run to its first training step")
    parser.add_argument("--without-mpi", action="store_true", help="one rank as a plain process")
    asked = parser.parse_args()
    pairs = 3 if asked.short else asked.pairs
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its byte code
    print("| command | saman | bare | more (median of pairs) | ratio | target |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="saman-start-") as temporary:
        folder, stubs = Path(temporary), Path(temporary, "stubs")
        stubs.mkdir()
        for name, text in STUBS.items():
            (stubs / name).write_text(f"#!/bin/sh\n{text}\n")
            (stubs / name).chmod(0o755)
        os.environ["PATH"] = f"{stubs}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        os.environ |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
        (folder / "program.py").write_text(PROGRAM)
        (folder / "here.yaml").write_text(CLUSTER)
        (folder / "job.sh").write_text("#!/bin/sh\n")
        stamps = folder / "stamps"
        program = [sys.executable, "program.py", str(stamps), *(["step"] if asked.tensorflow else [])]
        ranks, how = ("1", "processes") if asked.without_mpi else ("2", "mpirun")
        started = [*SAMAN, "run", "-np", ranks, f"launch.with={how}", "--", *program]
        mpirun = ["mpirun", "--oversubscribe", "-np", ranks, *program]
        goal = "the first step" if asked.tensorflow else "the program"
        other = "python" if asked.without_mpi else "mpirun python"
        pair(
            f"saman run to {goal}, beside {other}",
            "≤ 0.5 s more",
            pairs,
            lambda: until_program(started, stamps, folder),
            lambda: until_program(program if asked.without_mpi else mpirun, stamps, folder),
        )
        submit = [*SAMAN, "submit", "quickstart", "-c", "./here.yaml"]
        sbatch = ["sbatch", "job.sh"]
        pair(
            "saman submit, beside sbatch",
            "≤ 0.3 s more",
            pairs,
            lambda: whole(submit, folder),
            lambda: whole(sbatch, folder),
        )
        libraries = [sys.executable, "-c", "import typer, rich.console, rich.table, rich.markdown, typer.rich_utils"]
        pair(
            "saman --help, beside importing typer and rich",
            "≤ 0.2 s",
            pairs,
            lambda: whole([*SAMAN, "--help"], folder),
            lambda: whole(libraries, folder),
        )


if __name__ == "__main__":
    main()
