"""saman against a plain Horovod script, on the same models, ranks and machine, in one run.

    python benchmarks/training/step.py [--models mlp,cnn,resnet50,transformer] [--ranks 1,2,4] [--repeats 3] [--out DIR]

In each repeat the contenders follow one another; a figure is the median over the repeats, in samples per second of all
ranks over the steady part:

- *script*: ``plain_script.py`` under ``horovodrun --mpi`` as Horovod documents it;
- *pinned*: the same script under ``mpirun``, each rank on its own cores, with as many threads, MPI yielding;
- *saman*: ``saman run`` with ``horovod``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from models import BATCH

from saman.runs.files.whole import read_lines
from saman.runs.find import find_runs

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
STEPS = {"mlp": 1500, "cnn": 240, "resnet50": 24, "transformer": 150}
EXPERIMENT = """
name: {name}
model: {{build: "models:model", args: {{name: {name}}}}}
data: {{source: "models:data", args: {{name: {name}}}, validation_fraction: 0}}
train:
  strategy: {strategy}
  epochs: 100000
  max_steps: {steps}
  batch_size_per_rank: {batch}
  optimizer: {{name: sgd, momentum: 0.9}}
  learning_rate: {{base: 0.01}}
  telemetry_window_steps: {window}
  checkpoint: {{every_epochs: null}}
  {extra}
resources: {{ranks_per_node: {ranks}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mlp,cnn,resnet50,transformer")
    parser.add_argument("--ranks", default="1,2,4")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("training-speed"))
    parser.add_argument("--strategy", default="horovod")
    parser.add_argument("--extra", default="", help="a further line of the train part, e.g. 'steps_per_call: 8'")
    parser.add_argument("--only", default="script,pinned,saman")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before the first run", flush=True)
    print("| model | ranks | script | pinned | saman | saman ÷ script | saman ÷ pinned | waiting for input |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name in asked.models.split(","):
        for ranks in map(int, asked.ranks.split(",")):
            print(row(name, ranks, asked), flush=True)


def row(name: str, ranks: int, asked: argparse.Namespace) -> str:
    """One line of the table: medians of rates and of the repeats' ratios."""
    found: dict[str, list[float]] = {"script": [], "pinned": [], "saman": []}
    waits = []
    for repeat in range(asked.repeats):
        for contender in asked.only.split(","):
            if contender == "saman":
                rate, wait = by_saman(name, ranks, asked, repeat)
                waits.append(wait)
            else:
                rate = by_script(name, ranks, pinned=contender == "pinned")
            found[contender].append(rate)
    cells = [f"{statistics.median(rates):,.0f}" if rates else "" for rates in found.values()]
    for other in ("script", "pinned"):
        ratios = [mine / theirs for mine, theirs in zip(found["saman"], found[other], strict=False)]
        cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})" if ratios else "")
    cells.append(f"{statistics.median(waits):.0%}" if waits else "")
    return f"| {name} | {ranks} | " + " | ".join(cells) + " |"


def by_script(name: str, ranks: int, pinned: bool) -> float:
    """Samples per second of the plain script."""
    program = [sys.executable, str(HERE / "plain_script.py"), name, str(BATCH[name]), str(STEPS[name])]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "OMPI_ALLOW_RUN_AS_ROOT": "1"}
    environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    cores = os.cpu_count() or 1
    if pinned:
        each = max(1, cores // ranks)
        environment["PLAIN_THREADS"] = str(each)
        binding = ["--map-by", f"slot:PE={each}", "--bind-to", "core"] if ranks <= cores else ["--bind-to", "none"]
        start = [
            str(BIN / "mpirun"),
            "-np",
            str(ranks),
            "--oversubscribe",
            *binding,
            "--mca",
            "mpi_yield_when_idle",
            "1",
        ]
        start += ["--mca", "plm_rsh_agent", "/bin/true", "-x", "PLAIN_THREADS", "-x", "PATH"]
    else:
        environment["OMPI_MCA_plm_rsh_agent"] = "/bin/true"
        start = [str(BIN / "horovodrun"), "--mpi", "-np", str(ranks), "-H", f"localhost:{ranks}"]
    done = subprocess.run([*start, *program], env=environment, capture_output=True, text=True, check=False)
    lines = [line[line.index("{") :] for line in done.stdout.splitlines() if '"samples_per_second"' in line]
    if not lines:
        raise SystemExit(f"{' '.join(start)}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return float(json.loads(lines[0])["samples_per_second"])


def by_saman(name: str, ranks: int, asked: argparse.Namespace, repeat: int) -> tuple[float, float]:
    """Samples per second of ``saman run``, and the share of the step that waits for input."""
    steps = STEPS[name]
    file = asked.out / f"{name}.yaml"
    fields = {"name": name, "steps": steps, "batch": BATCH[name], "ranks": ranks, "window": max(1, steps // 12)}
    file.write_text(EXPERIMENT.format(**fields, strategy=asked.strategy, extra=asked.extra))
    runs = asked.out / f"runs-{name}-{ranks}-{repeat}-{os.getpid()}"
    command = [sys.executable, "-m", "saman", "run", str(file), "--runs-dir", str(runs)]
    environment = {**os.environ, "PYTHONPATH": str(HERE), "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-3000:] + done.stderr[-3000:])
    (run,) = find_runs(runs)
    windows = [line for line in read_lines(run.attempts()[-1].telemetry(0))[0] if line["step"] > steps // 3]
    seconds = sum(line["seconds"] for line in windows)
    samples = sum(line["samples"] / line["ranks_here"] * line["size"] for line in windows)
    return samples / seconds, sum(line["input_wait_seconds"] for line in windows) / seconds


if __name__ == "__main__":
    main()
