"""What parts of a step cost: steps with a part against steps without it, in turn, in the same process.

    python benchmarks/training/parts.py [--parts stamps,reports,exchange,xla] [--models mlp] [--ranks 1] [--turns 100]

All graphs train the same model on the same batches; which of the two comes first alternates. A figure is the median of
the ratio over pairs of neighbouring blocks, with its interval, of wall time and of the process's CPU seconds (which a
busy machine disturbs less, and which leave out waiting); on several ranks it is the chief's. Parts:

- *stamps*: the time stamps of each step;
- *reports*: the loop with telemetry, heartbeats, progress, stop requests, accuracy and time stamps, against the bare
  step: forward pass, loss, backward pass, exchange and update alone, in calls of as many steps;
- *script*: the loop with all that it reports, against the step of ``plain_script.py`` in the same processes: the script
  pinned, with yielding MPI;
- *exchange*: the sum over the ranks (its inverse is the efficiency beside the same ranks without exchange);
- *floor*: Horovod's bare allreduce of as many bytes, with nothing else to do, ÷ a step without exchange: on cores that
  the training keeps busy, no step with the exchange takes less than 1 plus this of the step without;
- *xla*: the setting ``jit_compile``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from contest import describe, raise_sessions
from models import BATCH, EXAMPLES, INPUTS, build, data

BLOCK_SECONDS = 0.25
Block = Callable[[], tuple[float, float]]  # takes some steps; returns seconds and CPU seconds per step


def main() -> None:
    """Measure here, or start the ranks that measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="stamps,reports,xla")
    parser.add_argument("--models", default="mlp")
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--turns", type=int, default=100)
    parser.add_argument("--nice", type=int, default=0, help="of the ranks; below 0 only as root")
    parser.add_argument("--short", action="store_true", help="some turns with the MLP, under a minute")
    asked = parser.parse_args()
    if asked.short:
        asked.parts, asked.models, asked.turns = "stamps,reports", "mlp", 40
    if asked.ranks > 1 and "OMPI_COMM_WORLD_RANK" not in os.environ:
        sys.exit(_start_ranks(asked.ranks, asked.nice))
    if os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "0":
        head = ["model", "ranks", "part", "step without it", "time with ÷ without", "CPU", "pairs"]
        print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    strategy = _strategy(asked.ranks)
    with tempfile.TemporaryDirectory() as scratch:
        for model in asked.models.split(","):
            measure(model, asked, strategy, Path(scratch))
    strategy.total(_zeros())


def _start_ranks(ranks: int, nice: int) -> int:
    """Start this program in each rank, as saman would: on cores of its own, yielding while it waits."""
    cores = os.cpu_count() or 1
    each = max(1, cores // ranks)
    threads = {"TF_NUM_INTRAOP_THREADS": str(each), "TF_NUM_INTEROP_THREADS": "2", "OMP_NUM_THREADS": str(each)}
    allowed = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    binding = ["--map-by", f"slot:PE={each}", "--bind-to", "core"] if ranks <= cores else ["--bind-to", "none"]
    start = [str(Path(sys.executable).parent / "mpirun"), "-np", str(ranks), "--oversubscribe", *binding]
    start += ["--mca", "mpi_yield_when_idle", "1", "--mca", "plm_rsh_agent", "/bin/true", sys.executable, *sys.argv]
    os.nice(nice)
    raise_sessions([os.getpid()], nice)
    return subprocess.run(start, env={**os.environ, **allowed, **threads}, check=False).returncode


def measure(model: str, asked: argparse.Namespace, strategy: Any, scratch: Path) -> None:
    """Print a line for each part."""
    from saman.trainers import keras_compat

    for part in asked.parts.split(","):
        keras_compat.start_session(1, "float32")
        blocks = _blocks(part, model, asked.ranks, strategy, scratch)
        wall, cpu, plain = _take_turns(blocks, strategy, asked.turns)
        if strategy.chief:
            cells = [model, str(asked.ranks), part, f"{1e3 * plain:.3g} ms", describe(wall, 3), describe(cpu, 3)]
            print(f"| {' | '.join([*cells, str(len(wall))])} |", flush=True)


def _take_turns(blocks: dict[bool, Block], strategy: Any, turns: int) -> tuple[list[float], list[float], float]:
    """Return each pair's ratios of wall time and of CPU seconds, and the median seconds of a step without the part."""
    for _ in range(4):
        for block in blocks.values():
            block()
    wall, cpu, plain = [], [], []
    for turn in range(turns):
        taken = {}
        for on in (True, False) if turn % 2 else (False, True):
            strategy.total(_zeros())  # a barrier: the ranks begin together
            taken[on] = blocks[on]()
        wall.append(taken[True][0] / taken[False][0])
        cpu.append(taken[True][1] / taken[False][1])
        plain.append(taken[False][0])
    return wall, cpu, sorted(plain)[len(plain) // 2]


def _blocks(part: str, model: str, ranks: int, strategy: Any, scratch: Path) -> dict[bool, Block]:
    from saman.trainers.loop.step import DataParallelStep
    from saman.trainers.program.loss_scale import LossScale

    experiment = _experiment(model, ranks)
    prepared, built = _program(experiment, strategy)

    def step(**options: Any) -> DataParallelStep:
        return DataParallelStep(built, strategy, 1, LossScale("float32"), **options)

    if part == "script":
        return {
            True: _loop_block(experiment, strategy, step(), prepared, scratch),
            False: _script_block(model, ranks, strategy),
        }
    if part == "reports":
        bare = replace(built, objective=_bare_objective(built.objective))
        plain = DataParallelStep(bare, strategy, 1, LossScale("float32"), stamps=False)
        return {
            True: _loop_block(experiment, strategy, step(), prepared, scratch),
            False: _graph_block(plain, prepared),
        }
    if part == "floor":
        return {
            True: _allreduce_block(built.model.trainable_variables, strategy),
            False: _graph_block(step(exchange=False), prepared),
        }
    options = {"stamps": ({}, {"stamps": False}), "exchange": ({}, {"exchange": False})}
    options["xla"] = ({"jit_compile": True}, {})
    return {on: _graph_block(step(**options[part][not on]), prepared) for on in (True, False)}


def _timed(take: Callable[[int], int], strategy: Any) -> Block:
    """Return a block of ``take``, which takes about as many steps as asked, and returns their number."""
    from saman.trainers.strategies.base import agree

    wanted, calls = 1, 0

    def block() -> tuple[float, float]:
        nonlocal wanted, calls
        began, cpu_began = time.perf_counter(), time.process_time()
        taken = take(wanted)
        seconds, cpu = (time.perf_counter() - began) / taken, (time.process_time() - cpu_began) / taken
        calls += 1
        if calls in (2, 3):  # the first compiled
            wanted = max(1, int(agree(strategy, BLOCK_SECONDS // seconds)))
        return seconds, cpu

    return block


def _graph_block(step: Any, prepared: Any) -> Block:
    """Return a block of calls of the graph that takes several steps."""
    from saman.trainers.loop.interfaces import MOST_STEPS

    feed = prepared.feeds.train(0)
    streams = [iter(feed.full_batches(part)) for part in step.slices]

    def take(steps: int) -> int:
        for first in range(0, steps, MOST_STEPS):
            step.train_many(0, [0.01] * min(MOST_STEPS, steps - first), 0.0, streams)
        return steps

    return _timed(take, step.strategy)


def _allreduce_block(variables: Any, strategy: Any) -> Block:
    """Return a block of allreduces of tensors as large as the gradients, and of nothing else."""
    import horovod.tensorflow as hvd
    import tensorflow as tf

    gradients = [tf.random.normal(variable.shape) for variable in variables]

    @tf.function
    def exchange() -> Any:
        copies = [tf.identity(gradient) for gradient in gradients]  # Horovod asks for their names in the graph
        return [tf.reduce_sum(total[..., :1]) for total in hvd.grouped_allreduce(copies, op=hvd.Sum)]

    def take(steps: int) -> int:
        for _ in range(steps):
            exchange()[-1].numpy()
        return steps

    return _timed(take, strategy)


def _loop_block(experiment: Any, strategy: Any, step: Any, prepared: Any, scratch: Path) -> Block:
    """Return a function that lets the loop take steps, with all that it reports, for as long as a block."""
    from saman.runs.ranks.heartbeats import Heartbeat
    from saman.trainers import assembly
    from saman.trainers.loop.interfaces import LoopEnvironment
    from saman.trainers.loop.loop import Loop
    from saman.trainers.loop.telemetry import TelemetryWriter

    rank = strategy.ranks[0]
    telemetry = TelemetryWriter(
        scratch / f"{rank}.jsonl",
        strategy.ranks,
        strategy.size,
        experiment.train.telemetry_window_steps,
        strategy.chief,
    )
    environment = LoopEnvironment(
        checkpoints=scratch / "checkpoints",
        training_facts=assembly.training_facts(experiment, strategy, prepared),
        metrics=experiment.metrics(),
        stop_request=scratch / "stop",
        record=lambda event: None,
        observer=Heartbeat(scratch / f"{rank}.heartbeat.json"),
        telemetry=telemetry,
    )
    rates = assembly.learning_rates(experiment, strategy, prepared)
    loop = Loop(experiment.train, strategy, step, prepared.feeds, rates, environment)
    windows: list[Any] = [iter(())]

    def take(steps: int) -> int:
        telemetry.pause()
        first = loop.position.step
        while loop.position.step < first + steps:
            full = next(windows[0], None)
            if full is None:  # the end of an epoch
                epoch, _ = divmod(loop.position.step, prepared.feeds.steps_per_epoch)
                loop.position = replace(loop.position, epoch=epoch, batch=0)
                windows[0] = loop._windows(prepared.feeds.train(epoch))
            elif full:
                loop._close_window()
        return loop.position.step - first

    return _timed(take, strategy)


def _script_block(model: str, ranks: int, strategy: Any) -> Block:
    """Return a block of steps as in ``plain_script.py``."""
    import tensorflow as tf

    inputs, labels = INPUTS[model](EXAMPLES[model])
    examples = tf.data.Dataset.from_tensor_slices((inputs, labels)).shuffle(len(labels)).repeat()
    batches = iter(examples.batch(BATCH[model]).prefetch(2))
    net, loss = build(model), tf.keras.losses.SparseCategoricalCrossentropy()
    optimizer = tf.keras.optimizers.SGD(0.01, momentum=0.9)
    optimizer.build(net.trainable_variables)
    sources = [variable.value for variable in net.trainable_variables]

    @tf.function
    def training_step(images: Any, answers: Any) -> Any:
        with tf.GradientTape() as tape:
            value = loss(answers, net(images, training=True))
        if ranks > 1:
            import horovod.tensorflow as hvd

            tape = hvd.DistributedGradientTape(tape)
        optimizer.apply(tape.gradient(value, sources), net.trainable_variables)
        return value

    def take(steps: int) -> int:
        for _ in range(steps):
            training_step(*next(batches))
        return steps

    return _timed(take, strategy)


def _bare_objective(objective: Any) -> Any:
    """The objective without accuracy."""

    class Bare(type(objective)):  # type: ignore[misc]
        counts_correct = False

    return Bare(objective.loss, objective.from_logits)


def _program(experiment: Any, strategy: Any) -> tuple[Any, Any]:
    from saman.trainers import assembly, models
    from saman.trainers.program import program

    prepared = assembly.prepare(experiment, strategy)
    with strategy.scope():
        built = models.build(experiment.model, prepared.input_shape)
        return prepared, program.build(experiment.train, built, prepared.element_spec, None)


def _experiment(model: str, ranks: int) -> Any:
    from saman.configs.schemas.experiment import Experiment

    train = {"strategy": "horovod" if ranks > 1 else "single", "batch_size_per_rank": BATCH[model], "epochs": 1000000}
    values: dict[str, Any] = {
        "name": model,
        "model": {"build": "models:model", "args": {"name": model}},
        "train": train,
    }
    values["data"] = {"source": f"{data.__module__}:data", "args": {"name": model}, "validation_fraction": 0}
    return Experiment.model_validate({**values, "resources": {"ranks_per_node": ranks}})


def _strategy(ranks: int) -> Any:
    if ranks == 1:
        from saman.trainers.strategies.single import SingleStrategy

        return SingleStrategy()
    from saman.trainers.strategies import horovod

    return horovod.start(_experiment("mlp", ranks), None)  # type: ignore[arg-type]


def _zeros() -> Any:
    import numpy as np

    return np.zeros(1)


if __name__ == "__main__":
    main()
