"""What checkpoints cost the training: calls of steps with a checkpoint against calls without, in turn, in one process.

    python benchmarks/training/checkpoints.py [--model resnet50] [--ranks 1] [--every 10] [--pairs 20]
        [--cores 1] [--short]

A call is ``--every`` steps; the checkpoint begins before the first of them and is written while they run, by the
loop's own writer, to ``--out``. Which call of a pair comes first alternates, and each ends when its steps are done and
its checkpoint is on disk; waiting for the disk counts as *waiting*, not as a step. The figures are medians of ratios
over pairs with their order-statistic intervals; the target is 1.01. On several ranks they are the chief's.

*CPU* is the ratio of the CPU seconds of all threads of the process, writing included: what a checkpoint costs where
no core is ever idle. With ``--cores`` the training of one rank computes on so many cores and leaves the others to the
writing, as a GPU leaves all. *Synchronous* is the same checkpoint with the training waiting for it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGET = 1.01
KINDS = ("none", "beside", "synchronous")


@dataclass(frozen=True)
class Call:
    """Seconds of a call of steps: ``steps`` with what it waited for the snapshot, ``waiting`` for the disk after it."""

    steps: float
    waiting: float
    snapshot: float
    cpu: float


def main() -> None:
    """Measure here, or start the ranks that measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--cores", type=int, help="that the training of one rank computes on; default: all")
    parser.add_argument("--every", type=int, default=10, help="steps between checkpoints")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=600, help="no round begins later")
    parser.add_argument("--out", type=Path, default=Path("checkpoint-cost"))
    parser.add_argument("--synchronous", action="store_true", help="also with the training waiting")
    parser.add_argument("--nice", type=int, default=0, help="below 0, as root: ahead of other users of the machine")
    parser.add_argument("--short", action="store_true", help="few pairs, for make bench")
    asked = parser.parse_args()
    if asked.short:
        asked.pairs, asked.seconds = 5, 60
    if asked.ranks > 1 and "OMPI_COMM_WORLD_RANK" not in os.environ:
        sys.exit(subprocess.run(under_mpirun(asked.ranks), env=environment(asked.ranks), check=False).returncode)
    if asked.cores and asked.ranks == 1:
        os.environ |= threads(asked.cores) | {"TF_NUM_INTEROP_THREADS": str(asked.cores)}
    os.nice(asked.nice)
    rounds, size, chief = measure(asked)
    if chief:
        report(asked, rounds, size)
        shutil.rmtree(asked.out)


def under_mpirun(ranks: int) -> list[str]:
    """This command in ``ranks`` processes, each on its own cores."""
    each = max(1, (os.cpu_count() or 1) // ranks)
    binding = ["--map-by", f"slot:PE={each}", "--bind-to", "core"] if ranks <= (os.cpu_count() or 1) else []
    start = [str(Path(sys.executable).parent / "mpirun"), "-np", str(ranks), "--oversubscribe", *binding]
    return [*start, "--mca", "mpi_yield_when_idle", "1", sys.executable, *sys.argv]


def environment(ranks: int) -> dict[str, str]:
    """Threads as saman gives them, and MPI for root."""
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return {**os.environ, **allowed, **threads(max(1, (os.cpu_count() or 1) // ranks))}


def threads(cores: int) -> dict[str, str]:
    """What bounds the threads of TensorFlow."""
    return {"TF_NUM_INTRAOP_THREADS": str(cores), "OMP_NUM_THREADS": str(cores)}


def measure(asked: argparse.Namespace) -> tuple[list[dict[str, Call]], int, bool]:
    """The calls of each round by kind, the bytes of a checkpoint, and whether this is the chief."""
    from saman.runs.checkpoints import CheckpointPlan, CheckpointWriter, TrainingPosition
    from saman.runs.records.training_facts import TrainingFacts
    from saman.trainers.strategies.base import agree

    strategy, step, stream = assemble(asked.model, asked.ranks)
    plan = CheckpointPlan(
        folder=asked.out,
        facts=TrainingFacts(),
        keep=3,
        part=step.part,
        parts=step.parts,
        divided=step.divided,
        publishes=strategy.chief,
        record=lambda saved: None,
    )
    kinds = KINDS if asked.synchronous else KINDS[:2]
    writer, taken = CheckpointWriter(plan), 0

    def call(kind: str, steps_taken: int) -> Call:
        nonlocal taken
        strategy.total(_zero())
        cpu, began = time.process_time(), time.perf_counter()
        if kind != "none":
            taken += 1
            writer.begin(TrainingPosition(step=taken), step.snapshot)
        snapshot = time.perf_counter() - began
        if kind == "synchronous":
            writer.finish()
            strategy.total(_zero())
        run_steps(step, steps_taken, stream)
        steps = time.perf_counter() - began
        writer.finish()
        return Call(steps, time.perf_counter() - began - steps, snapshot, time.process_time() - cpu)

    until = time.monotonic() + asked.seconds
    for kind in kinds:
        call(kind, 2)
    rounds: list[dict[str, Call]] = []
    for turn in range(asked.pairs):
        if rounds and agree(strategy, time.monotonic() > until):
            break
        rounds.append({kind: call(kind, asked.every) for kind in (kinds if turn % 2 else kinds[::-1])})
        if strategy.chief:
            print(rounds[-1], file=sys.stderr, flush=True)
    size = sum(file.stat().st_size for file in max(asked.out.glob("step-*")).iterdir())
    chief = strategy.chief
    strategy.total(_zero())
    strategy.close()
    return rounds, size, chief


def assemble(model: str, ranks: int) -> tuple[Any, Any, list[Any]]:
    """The strategy, the step with stochastic gradient descent and momentum, and its streams of full batches."""
    from models import BATCH, INPUTS, build

    from saman.configs.schemas.experiment import Experiment
    from saman.trainers import keras_compat
    from saman.trainers.keras_compat import tf
    from saman.trainers.loop.step import DataParallelStep
    from saman.trainers.program import program
    from saman.trainers.program.loss_scale import LossScale
    from saman.trainers.strategies import horovod
    from saman.trainers.strategies.single import SingleStrategy

    train = {"strategy": "horovod" if ranks > 1 else "single", "global_batch_size": BATCH[model] * ranks}
    train |= {"optimizer": {"name": "sgd", "momentum": 0.9}, "learning_rate": 0.01}
    values = {"name": "checkpoints", "data": {"source": "digits"}, "model": {"build": "mlp"}, "train": train}
    experiment = Experiment.model_validate({**values, "resources": {"ranks_per_node": ranks}})
    strategy: Any = horovod.start(experiment, None) if ranks > 1 else SingleStrategy()  # type: ignore[arg-type]
    keras_compat.start_session(1, "float32")
    inputs, labels = INPUTS[model](BATCH[model] * 4)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, labels)).repeat().batch(BATCH[model], drop_remainder=True)
    built = program.build(experiment.train, build(model), dataset.element_spec, None)
    return strategy, DataParallelStep(built, strategy, 1, LossScale("float32")), [iter(dataset)]


def run_steps(step: Any, count: int, stream: list[Any]) -> None:
    """As the loop takes long steps: one in each call of the graph."""
    many = step.train_many
    for number in range(count):
        many(number, [0.01], 0.0, stream).measures.numpy()


def _zero() -> Any:
    import numpy as np

    return np.zeros(1)


def report(asked: argparse.Namespace, rounds: list[dict[str, Call]], size: int) -> None:
    """Print the costs beside their target."""
    from saman.scaling.statistics.intervals import median_estimate

    plain = sorted(calls["none"].steps for calls in rounds)[len(rounds) // 2]
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; checkpoints of {size / 1e6:.0f} MB")
    print(f"{asked.model}, {asked.ranks} rank(s), {len(rounds)} rounds of calls of {asked.every} steps, {plain:.3g} s")
    print("| checkpoint | time ÷ time without | CPU ÷ CPU without | snapshot, ms | waiting for the disk, ms |")
    print("|---|---|---|---|---|")
    for kind in [kind for kind in KINDS[1:] if kind in rounds[0]]:
        cells = []
        for what in ("steps", "cpu"):
            cost = median_estimate([getattr(calls[kind], what) / getattr(calls["none"], what) for calls in rounds])
            interval = f" [{cost.interval.low:.3f}, {cost.interval.high:.3f}]" if cost.interval else ""
            cells.append(f"{cost.value:.4f}{interval}")
        for what in ("snapshot", "waiting"):
            cells.append(f"{1e3 * statistics.median(getattr(calls[kind], what) for calls in rounds):.1f}")
        print(f"| {kind} | {' | '.join(cells)} |")
    print(f"target: at most {TARGET}")


if __name__ == "__main__":
    main()
