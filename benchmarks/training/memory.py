"""Memory of a rank over that of a plain Horovod script, on the same models, and its growth over many steps.

    python benchmarks/training/memory.py [--models mlp,cnn,resnet50] [--ranks 1] [--steps 10000] [--repeats 3] [--short]

The first table: the peak resident memory (``VmHWM``) of a rank, in MB, median over the repeats and the largest of the
ranks. *script*: ``plain_script.py`` under ``mpirun``. *saman*: the training of ``saman run``, with ``horovod``. *over*
is the median of the differences in a repeat; the target is 50 MB. The last columns add what the script does not do:
a checkpoint every ten steps with its snapshot, and the export, which loads the model again from both of its files.

The second: how much the peak of a rank of the MLP grows over ``--steps`` steps, after the first tenth of them.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from models import BATCH

from saman.runs.find import find_runs
from saman.runs.telemetry.window import read_windows

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
STEPS = {"mlp": 300, "cnn": 90, "resnet50": 12, "transformer": 60}
TARGET_MB = 50
TOKEN = "BENCHMARK_TOKEN"  # in the environment of every process that a measurement starts
EXPERIMENT = """
name: {name}
model: {{build: "models:model", args: {{name: {name}}}}}
data: {{source: "models:data", args: {{name: {name}}}, validation_fraction: 0}}
train:
  strategy: horovod
  epochs: 100000
  max_steps: {steps}
  batch_size_per_rank: {batch}
  optimizer: {{name: sgd, momentum: 0.9}}
  learning_rate: {{base: 0.01}}
  checkpoint: {{every_epochs: null, every_steps: {every}}}
resources: {{ranks_per_node: {ranks}}}
export: {export}
"""


@dataclass
class Memory:
    """The largest peak of the ranks, and by how much that of rank 0 grew after a tenth of its steps, in MB."""

    peak: float = 0.0
    growth: float = 0.0


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mlp,cnn,resnet50", help="of the first table; '' for none")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10_000, help="of the run that shows growth; 0 for none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("rank-memory"))
    parser.add_argument("--short", action="store_true", help="the MLP alone, once, and 1,500 steps, for make bench")
    asked = parser.parse_args()
    if asked.short:
        asked.models, asked.repeats, asked.steps = "mlp", 1, 1500
    asked.out.mkdir(parents=True, exist_ok=True)
    print(
        "| model | ranks | script, MB | saman, MB | over | with checkpoints, MB | with export, MB |\n"
        + 7 * "|---"
        + "|",
        flush=True,
    )
    for name in filter(None, asked.models.split(",")):
        print(row(name, asked), flush=True)
    print(f"target: at most {TARGET_MB} MB over the script\n", flush=True)
    if not asked.steps:
        return
    memory = by_saman("mlp", 1, asked.steps, asked.out)
    print(f"mlp, 1 rank, {asked.steps} steps: peak {memory.peak:.0f} MB, growth {memory.growth:+.1f} MB")


def row(name: str, asked: argparse.Namespace) -> str:
    """One line of the first table."""
    script, saman, saving, exporting = [], [], [], []
    for _ in range(asked.repeats):
        script.append(by_script(name, asked.ranks).peak)
        saman.append(by_saman(name, asked.ranks, STEPS[name], asked.out).peak)
        saving.append(by_saman(name, asked.ranks, STEPS[name], asked.out, every=10).peak)
        exporting.append(by_saman(name, asked.ranks, STEPS[name], asked.out, export=True).peak)
    over = [mine - theirs for mine, theirs in zip(saman, script, strict=True)]
    middle, more = (
        " | ".join(f"{statistics.median(values):,.0f}" for values in columns)
        for columns in ((script, saman), (saving, exporting))
    )
    spread = f"{statistics.median(over):+.0f} ({min(over):+.0f} to {max(over):+.0f})"
    return f"| {name} | {asked.ranks} | {middle} | {spread} | {more} |"


def by_script(name: str, ranks: int) -> Memory:
    """The ranks of the plain script, which ends with as many steps."""
    each = max(1, (os.cpu_count() or 1) // ranks)
    start = [str(BIN / "mpirun"), "-np", str(ranks), "--oversubscribe", "--bind-to", "none"]
    start += ["--mca", "mpi_yield_when_idle", "1", "--mca", "plm_rsh_agent", "/bin/true"]
    program = [sys.executable, str(HERE / "plain_script.py"), name, str(BATCH[name]), str(STEPS[name])]
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PLAIN_THREADS": str(each)}
    return watch([*start, *program], "plain_script.py", allowed)


def by_saman(name: str, ranks: int, steps: int, out: Path, *, every: int | None = None, export: bool = False) -> Memory:
    """The ranks of ``saman run``."""
    file = out / f"{name}.yaml"
    fields = {"name": name, "steps": steps, "batch": BATCH[name], "ranks": ranks, "every": every or "null"}
    file.write_text(EXPERIMENT.format(**fields, export=str(export).lower()))
    runs = out / f"runs-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", "saman", "run", str(file), "--runs-dir", str(runs)]
    memory = watch(command, "saman.trainers.worker", {"PYTHONPATH": str(HERE)})
    (run,) = find_runs(runs)
    windows = [window for window in read_windows(run, 0)[0] if window.step > steps / 10 and window.memory_bytes]
    memory.growth = ((windows[-1].memory_bytes or 0) - (windows[0].memory_bytes or 0)) / 2**20
    return memory


def watch(command: list[str], program: str, environment: dict[str, str]) -> Memory:
    """Run a command; sample the memory of the processes it starts that run ``program``."""
    token, memory = uuid.uuid4().hex, Memory()
    environ = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment, TOKEN: token}
    with tempfile.TemporaryFile("w+") as log:
        started = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT)
        while started.poll() is None:
            memory.peak = max([memory.peak, *peaks(program, token)])
            time.sleep(0.1)
        log.seek(0)
        text = log.read()
    if started.returncode or not memory.peak:
        raise SystemExit(f"{' '.join(command)}:\n{text[-3000:]}")
    return memory


def peaks(program: str, token: str) -> list[float]:
    """Peak memory, in MB, of the Python processes of a measurement that run ``program``."""
    found = []
    for place in sorted(Path("/proc").glob("[0-9]*"), key=lambda place: int(place.name)):
        with contextlib.suppress(OSError, ValueError):
            arguments = (place / "cmdline").read_bytes().split(b"\0")
            is_python = b"python" in Path(os.fsdecode(arguments[0])).name.encode()
            runs = arguments[1:2] if arguments[1:2] != [b"-m"] else arguments[2:3]
            if not (is_python and runs and runs[0].endswith(program.encode())):
                continue
            if f"{TOKEN}={token}".encode() in (place / "environ").read_bytes():
                lines = (place / "status").read_text().splitlines()
                found += [int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")]
    return found


if __name__ == "__main__":
    main()
