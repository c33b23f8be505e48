"""saman against a plain Horovod script, on the same models, ranks and machine, in one run.

    python benchmarks/training/step.py [--models mlp,cnn,resnet50,transformer] [--ranks 1,2,4] [--rounds 8]
        [--contenders script,pinned,horovod] [--out DIR]

All contenders of a cell are started; then each in turn runs for a few seconds while the others are frozen
(``contest.py``). Rates are medians over the blocks, in samples per second of all ranks. A ratio is the median of the
ratios of neighbouring blocks, with its interval. The last columns divide a step of rank 0 by its time stamps: what it
waits for input, its own work, the exchange and the wait for other ranks; and the CPU milliseconds of its process, which
for *mirrored* holds all ranks. Contenders:

- *script*: ``plain_script.py`` under ``horovodrun --mpi`` as Horovod documents it;
- *pinned*: the same script under ``mpirun``, each rank on its own cores, with as many threads, MPI yielding;
- *run*: the same script, unchanged, under ``saman run -np N --``;
- *horovod*, *multi_worker*, *mirrored*, *single*: ``saman run`` with this strategy. ``horovod:KEY=VALUE`` adds a
  setting to the experiment's ``train``, ``horovod+NAME=VALUE`` a variable to its environment, and ``horovod@FOLDER``
  runs the checkout in that folder. Name *multi_worker* last: its workers give each other up when they are frozen for
  long.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from contest import Contender, Span, describe, paired, run_in_turn, start
from models import BATCH

from saman.runs.files.whole import read_lines
from saman.runs.find import find_runs
from saman.runs.telemetry.window import Window, read_windows

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "src"
BIN = Path(sys.executable).parent
SCRIPTS = ("script", "pinned", "run")
EXPERIMENT = """
name: {model}
model: {{build: "models:model", args: {{name: {model}}}}}
data: {{source: "models:data", args: {{name: {model}}}, validation_fraction: 0}}
train:
  strategy: {strategy}
  epochs: 1000000
  batch_size_per_rank: {batch}
  optimizer: {{name: sgd, momentum: 0.9}}
  learning_rate: {{base: 0.01}}
  checkpoint: {{every_epochs: null}}
  {setting}
resources: {{ranks_per_node: {ranks}, devices_per_process: {devices}}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mlp,cnn,resnet50,transformer")
    parser.add_argument("--ranks", default="1,2,4")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=2.5, help="of a block")
    parser.add_argument("--contenders", default="script,pinned,horovod")
    parser.add_argument("--nice", type=int, default=0, help="of all contenders; below 0 only as root")
    parser.add_argument("--out", type=Path, help="keep run folders and logs here")
    parser.add_argument("--short", action="store_true", help="two models at two ranks, under two minutes")
    if "--short" in sys.argv:
        parser.set_defaults(models="mlp,cnn", ranks="2", rounds=4, seconds=2.0)
    asked = parser.parse_args()
    os.nice(asked.nice)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the contenders are in sessions of their own
    names = asked.contenders.split(",")
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before the first run", flush=True)
    last = names[-1]
    head = ["model", "ranks", *names, *(f"{last} ÷ {name}" for name in names[:-1])]
    head += [f"{name}: input wait + own + exchange; CPU (ms)" for name in names if name not in SCRIPTS]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for model in asked.models.split(","):
            for ranks in map(int, asked.ranks.split(",")):
                folder = (asked.out or Path(scratch)) / f"{model}-{ranks}-{os.getpid()}"
                folder.mkdir(parents=True)
                print(row(model, ranks, names, asked, folder.resolve()), flush=True)


def row(model: str, ranks: int, names: list[str], asked: argparse.Namespace, folder: Path) -> str:
    """Run a cell; return its line of the table, with ratios of the last contender to each of the others."""
    starts: list[Callable[[], Contender]] = [
        partial(STARTS.get(name, start_saman), name, model, ranks, folder) for name in names
    ]
    contenders = run_in_turn(starts, asked.rounds, asked.seconds, keeps_last=names[-1].startswith("multi_worker"))
    rates = [contender.rates() for contender in contenders]
    batch = BATCH[model] * ranks
    cells = [f"{statistics.median([rate * batch for rate in found if rate == rate]):,.0f}" for found in rates]
    cells += [describe(paired(rates[-1], found)) for found in rates[:-1]]
    cells += [parts_of_step(contender) for contender in contenders if contender.name not in SCRIPTS]
    return f"| {model} | {ranks} | " + " | ".join(cells) + " |"


def parts_of_step(contender: Contender) -> str:
    """Milliseconds per step of the process of rank 0."""
    spans = [span for block in contender.in_blocks() for span in block]
    steps = sum(span.steps for span in spans) / 1e3 or math.nan
    parts = [
        sum(getattr(span, f"{part}_seconds") for span in spans) / steps
        for part in ("input_wait", "own", "exchange", "cpu")
    ]
    return "{:.2f} + {:.2f} + {:.2f}; {:.2f}".format(*parts)


def start_script(name: str, model: str, ranks: int, folder: Path) -> Contender:
    """Start the plain script."""
    report = folder / f"{name}.jsonl"
    report.touch()
    program = [sys.executable, str(HERE / "plain_script.py"), model, str(BATCH[model]), "0", str(report)]
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "OMPI_ALLOW_RUN_AS_ROOT": "1"}
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "PYTHONPATH": str(SOURCE)}
    if name == "pinned":
        each = max(1, (os.cpu_count() or 1) // ranks)
        environment["PLAIN_THREADS"] = str(each)
        binding = ["--map-by", f"slot:PE={each}", "--bind-to", "core"] if ranks * each <= (os.cpu_count() or 1) else []
        command = [str(BIN / "mpirun"), "-np", str(ranks), "--oversubscribe", *(binding or ["--bind-to", "none"])]
        command += ["--mca", "mpi_yield_when_idle", "1", "--mca", "plm_rsh_agent", "/bin/true"]
        command += ["-x", "PLAIN_THREADS", "-x", "PATH", "-x", "PYTHONPATH"]
    else:
        environment["OMPI_MCA_plm_rsh_agent"] = "/bin/true"
        command = [str(BIN / "horovodrun"), "--mpi", "-np", str(ranks), "-H", f"localhost:{ranks}"]
    log, process = start(name, [*command, *program], environment, folder)
    return Contender(name, process, lambda: _script_spans(report), log)


def start_under_saman(name: str, model: str, ranks: int, folder: Path) -> Contender:
    """Start the plain script with ``saman run``, which needs no other word than the number of ranks."""
    report, script = folder / f"{name}.jsonl", str(HERE / "plain_script.py")
    report.touch()
    program = [sys.executable, script, model, str(BATCH[model]), "0", str(report)]
    runs = ["--runs-dir", str(folder / "script-runs")]
    command = [sys.executable, "-m", "saman", "run", "-np", str(ranks), *runs, "--", *program]
    path = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(SOURCE)}
    log, process = start(name, command, {**os.environ, **path}, folder)
    return Contender(name, process, lambda: _script_spans(report), log, script)


def start_saman(name: str, model: str, ranks: int, folder: Path) -> Contender:
    """Start ``saman run``; ``name`` is a strategy, with a setting or the folder of a checkout behind it."""
    name_of_files = f"saman{len(list(folder.glob('saman*.yaml')))}"
    rest, _, checkout = name.partition("@")
    rest, *variables = rest.split("+")
    strategy, _, setting = rest.partition(":")
    file, runs = folder / f"{name_of_files}.yaml", folder / f"{name_of_files}-runs"
    devices = ranks if strategy == "mirrored" else 1
    fields = {"model": model, "batch": BATCH[model], "ranks": ranks, "devices": devices}
    file.write_text(EXPERIMENT.format(**fields, strategy=strategy, setting=setting.replace("=", ": ")))
    source = Path(checkout) / "src" if checkout else SOURCE
    more = dict(variable.split("=") for variable in variables)
    more |= {"PYTHONPATH": f"{source}:{HERE}", "PATH": f"{BIN}:{os.environ['PATH']}"}
    command = [sys.executable, "-m", "saman", "run", str(file), "--runs-dir", str(runs)]
    log, process = start(name_of_files, command, {**os.environ, **more}, folder)
    return Contender(name, process, lambda: _telemetry_spans(runs), log, "saman.trainers.worker")


def _script_spans(report: Path) -> list[Span]:
    return [Span(line["time"], line["steps"], line["seconds"]) for line in read_lines(report)[0]]


def _telemetry_spans(runs: Path) -> list[Span]:
    """Read the windows of rank 0; empty until the run has an attempt."""
    windows = [window for run in find_runs(runs) for window in read_windows(run, 0)[0]]
    return [_span(window) for window in windows if not window.compiled]


def _span(window: Window) -> Span:
    waited, exchanged = window.input_wait_seconds, window.exchange_seconds or 0.0
    own = window.seconds - waited - exchanged
    return Span(window.time, window.steps, window.seconds, waited, exchanged, own, window.cpu_seconds or 0.0)


STARTS = {"script": start_script, "pinned": start_script, "run": start_under_saman}


if __name__ == "__main__":
    main()
