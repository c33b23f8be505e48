"""What the time stamps of a step cost: steps with them against steps without, in turn, in the same process.

    python benchmarks/training/stamps.py [--model mlp] [--ranks 1] [--turns 200]

Both graphs train the same model on the same batches; which of the two comes first alternates. The figure is the median
of the ratio over pairs of neighbouring calls, with its order-statistic interval; the target is below 1.01. On several
ranks it is the chief's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

TARGET = 1.01
STEPS = 32  # of a call


def main() -> None:
    """Measure here, or start the ranks that measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mlp")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--turns", type=int, default=200)
    asked = parser.parse_args()
    if asked.ranks > 1 and "OMPI_COMM_WORLD_RANK" not in os.environ:
        allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "TF_NUM_INTRAOP_THREADS": "1"}
        start = [str(Path(sys.executable).parent / "mpirun"), "-np", str(asked.ranks), "--oversubscribe"]
        start += ["--bind-to", "none", "--mca", "mpi_yield_when_idle", "1", sys.executable, *sys.argv]
        sys.exit(subprocess.run(start, env={**os.environ, **allowed}, check=False).returncode)
    ratios, seconds, chief = measure(asked)
    if chief:
        report(asked, ratios, seconds)


def measure(asked: argparse.Namespace) -> tuple[list[float], float, bool]:
    """The ratio of each pair of calls, seconds per step without stamps, and whether this is the chief."""
    from models import BATCH, INPUTS, build

    from saman.configs.schemas.training import Train
    from saman.trainers import keras_compat
    from saman.trainers.keras_compat import tf
    from saman.trainers.loop.loss_scale import LossScale
    from saman.trainers.loop.step import DataParallelStep
    from saman.trainers.program import program

    strategy = _strategy(asked.ranks)
    keras_compat.start_session(1, "float32")
    batch = BATCH[asked.model]
    inputs, labels = INPUTS[asked.model](batch * 4)
    dataset = tf.data.Dataset.from_tensor_slices((inputs, labels)).repeat().batch(batch, drop_remainder=True)
    what = {"strategy": "horovod" if asked.ranks > 1 else "single", "global_batch_size": batch * asked.ranks}
    settings = Train.model_validate({**what, "epochs": 1, "learning_rate": 0.01})
    spec = dataset.element_spec
    built = program.build(settings, build(asked.model), spec, None)
    steps = {on: DataParallelStep(built, strategy, 1, LossScale("float32"), stamps=on) for on in (True, False)}
    streams = {on: [iter(dataset)] for on in steps}

    def call(on: bool) -> float:
        began = time.perf_counter()
        many = steps[on].train_many
        assert many is not None
        totals = many(0, [0.01] * STEPS, 0.0, streams[on])
        if totals.stamps is not None:
            totals.stamps.numpy()
        return time.perf_counter() - began

    for on in (True, False, True, False):
        call(on)
    pairs = []
    for turn in range(asked.turns):
        first = turn % 2 == 0
        taken = {on: call(on) for on in (first, not first)}
        pairs.append(taken)
    plain = sorted(taken[False] for taken in pairs)[len(pairs) // 2] / STEPS
    chief = strategy.chief
    strategy.close()
    return [taken[True] / taken[False] for taken in pairs], plain, chief


def _strategy(ranks: int) -> Any:
    if ranks == 1:
        from saman.trainers.strategies.single import SingleStrategy

        return SingleStrategy()
    from saman.trainers.strategies import horovod

    return horovod.start(_experiment(ranks), None)  # type: ignore[arg-type]


def _experiment(ranks: int) -> Any:
    """As much of an experiment as the strategy reads."""
    from saman.configs.schemas.experiment import Experiment

    train = {"strategy": "horovod", "global_batch_size": 64 * ranks}
    values = {"name": "stamps", "data": {"source": "digits"}, "model": {"build": "mlp"}, "train": train}
    return Experiment.model_validate({**values, "resources": {"ranks_per_node": ranks}})


def report(asked: SimpleNamespace | argparse.Namespace, ratios: list[float], seconds: float) -> None:
    """Print the cost beside its target."""
    from saman.scaling.statistics.intervals import median_estimate

    cost = median_estimate(ratios)
    interval = f" [{cost.interval.low:.4f}, {cost.interval.high:.4f}]" if cost.interval else ""
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(
        f"{asked.model}, {asked.ranks} rank(s), {len(ratios)} pairs of {STEPS} steps of {1e3 * seconds:.3g} ms: with "
        f"time stamps {cost.value:.4f}{interval} times the time without; target below {TARGET}"
    )


if __name__ == "__main__":
    main()
