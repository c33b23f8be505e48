"""Memory of a rank over that of a plain Horovod script, on the same models, and its growth over many steps.

    python benchmarks/training/memory.py [--models mlp,cnn,resnet50] [--ranks 1] [--steps 10000] [--repeats 3] [--short]

The first table: the peak resident memory (``VmHWM``) of a rank, in MB, median over the repeats and the largest of the
ranks. *script*: ``plain_script.py`` under ``mpirun``. *saman*: ``saman run`` with ``horovod``; the last column adds a
checkpoint every ten steps, whose snapshot the script does not take. *over* is the median of the differences within
each repeat; the target is 50 MB.

The second: the resident memory of a rank of the MLP over ``--steps`` steps, sampled while it trains, as the median of
the last tenth of the samples minus that of the second tenth.
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
from dataclasses import dataclass, field
from pathlib import Path

from models import BATCH

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
"""


@dataclass
class Memory:
    """Resident memory of the ranks: the largest peak, and samples of the first process found, in MB."""

    peak: float = 0.0
    samples: list[float] = field(default_factory=list)

    @property
    def growth(self) -> float:
        """The median of the last tenth of the samples minus that of the second tenth, when all is built."""
        tenth = max(1, len(self.samples) // 10)
        return statistics.median(self.samples[-tenth:]) - statistics.median(self.samples[tenth : 2 * tenth])


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
        "| model | ranks | script, MB | saman, MB | over | with checkpoints, MB |\n|---|---|---|---|---|---|",
        flush=True,
    )
    for name in filter(None, asked.models.split(",")):
        print(row(name, asked), flush=True)
    print(f"target: at most {TARGET_MB} MB over the script\n", flush=True)
    if not asked.steps:
        return
    memory = by_saman("mlp", 1, asked.steps, None, asked.out)
    print(f"mlp, 1 rank, {asked.steps} steps: peak {memory.peak:.0f} MB, growth {memory.growth:+.1f} MB")


def row(name: str, asked: argparse.Namespace) -> str:
    """One line of the first table."""
    script, saman, saving = [], [], []
    for _ in range(asked.repeats):
        script.append(by_script(name, asked.ranks).peak)
        saman.append(by_saman(name, asked.ranks, STEPS[name], None, asked.out).peak)
        saving.append(by_saman(name, asked.ranks, STEPS[name], 10, asked.out).peak)
    over = [mine - theirs for mine, theirs in zip(saman, script, strict=True)]
    middle = [f"{statistics.median(values):,.0f}" for values in (script, saman)]
    spread = f"{statistics.median(over):+.0f} ({min(over):+.0f} to {max(over):+.0f})"
    return f"| {name} | {asked.ranks} | {' | '.join(middle)} | {spread} | {statistics.median(saving):,.0f} |"


def by_script(name: str, ranks: int) -> Memory:
    """The ranks of the plain script, which ends with as many steps."""
    each = max(1, (os.cpu_count() or 1) // ranks)
    start = [str(BIN / "mpirun"), "-np", str(ranks), "--oversubscribe", "--bind-to", "none"]
    start += ["--mca", "mpi_yield_when_idle", "1", "--mca", "plm_rsh_agent", "/bin/true"]
    program = [sys.executable, str(HERE / "plain_script.py"), name, str(BATCH[name]), str(STEPS[name])]
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PLAIN_THREADS": str(each)}
    return watch([*start, *program], "plain_script.py", allowed)


def by_saman(name: str, ranks: int, steps: int, every: int | None, out: Path) -> Memory:
    """The ranks of ``saman run``."""
    file = out / f"{name}.yaml"
    fields = {"name": name, "steps": steps, "batch": BATCH[name], "ranks": ranks, "every": every or "null"}
    file.write_text(EXPERIMENT.format(**fields))
    runs = out / f"runs-{uuid.uuid4().hex[:8]}"
    command = [sys.executable, "-m", "saman", "run", str(file), "--runs-dir", str(runs)]
    return watch(command, "saman.trainers.worker", {"PYTHONPATH": str(HERE)})


def watch(command: list[str], program: str, environment: dict[str, str]) -> Memory:
    """Run a command; sample the memory of the processes it starts that run ``program``."""
    token, memory = uuid.uuid4().hex, Memory()
    environ = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", **environment, TOKEN: token}
    with tempfile.TemporaryFile("w+") as log:
        started = subprocess.Popen(command, env=environ, stdout=log, stderr=subprocess.STDOUT)
        while started.poll() is None:
            for at, status in enumerate(ranks_of(program, token)):
                memory.peak = max(memory.peak, status["VmHWM"])
                if at == 0:
                    memory.samples.append(status["VmRSS"])
            time.sleep(0.1)
        log.seek(0)
        text = log.read()
    if started.returncode or not memory.samples:
        raise SystemExit(f"{' '.join(command)}:\n{text[-3000:]}")
    return memory


def ranks_of(program: str, token: str) -> list[dict[str, float]]:
    """Peak and present memory, in MB, of the Python processes of a measurement that run ``program``."""
    found = []
    for place in sorted(Path("/proc").glob("[0-9]*"), key=lambda place: int(place.name)):
        with contextlib.suppress(OSError, ValueError):
            arguments = (place / "cmdline").read_bytes().split(b"\0")
            is_python = b"python" in Path(os.fsdecode(arguments[0])).name.encode()
            runs = arguments[1:2] if arguments[1:2] != [b"-m"] else arguments[2:3]
            if not (is_python and runs and runs[0].endswith(program.encode())):
                continue
            if f"{TOKEN}={token}".encode() in (place / "environ").read_bytes():
                lines = (line.split() for line in (place / "status").read_text().splitlines())
                found.append({line[0][:-1]: int(line[1]) / 1024 for line in lines if line[0] in ("VmHWM:", "VmRSS:")})
    return [status for status in found if len(status) == 2]


if __name__ == "__main__":
    main()
