"""One optimiser step of a pipeline, for the one loop: stages run their passes, then norms and counts are summed.

stages here ──► Σ over micro-batches ──► Σ over the stage's replicas (its process set)
                   [loss, correct, count, stop, ‖gradient‖²] ──► Σ over all ranks
                                   ÷ global count ──► clip by the norm of all stages ──► each stage's optimiser
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np

from saman.trainers import keras_compat
from saman.trainers.data.feed import Slice
from saman.trainers.keras_compat import tf
from saman.trainers.loop.loss_scale import LossScale
from saman.trainers.loop.step import COUNT, STOP
from saman.trainers.pipeline.inference import Inference
from saman.trainers.pipeline.messages import Spent
from saman.trainers.pipeline.runner import Runner, Sums
from saman.trainers.pipeline.state import Lazily, Names

Of = TypeVar("Of")
NORM = 4  # the place behind those of the measures; not finite where any gradient is not


class Grid(Protocol):
    """What a pipeline asks of its strategy beyond what every strategy gives."""

    replica: int
    replicas: int
    chief: bool

    def combine_replicas(self, tensors: Sequence[Any]) -> list[Any]:
        """Σ over the replicas of this process's stage, for each tensor."""

    def total(self, values: np.ndarray) -> np.ndarray:
        """Σ over all processes of a float64 vector."""

    def make_identical_replicas(self, variables: Sequence[Any]) -> None:
        """Give all replicas of this process's stage the values of its first."""


class PipelineStep:
    """The stages that live in this process: one of a rank grid, or all of them, each on a device of its own."""

    def __init__(self, runners: Sequence[Runner], names: Sequence[Names], grid: Grid, scale: LossScale) -> None:
        self.runners, self.names, self.grid, self.scale = list(runners), list(names), grid, scale
        self.slices = [Slice(grid.replica, grid.replicas)]
        self.counts_examples = self.runners[0].first
        self.part = self.runners[0].index if grid.replica == 0 else None
        self.parts = 1 if len(self.runners) > 1 else self.runners[0].how.stages
        self.exchange_seconds = 0.0
        self.memory_start_bytes: int | None = None
        self.notes: tuple[dict[str, Any], ...] = ()
        self._inferences = [Inference(runner) for runner in self.runners]
        self._threads = ThreadPoolExecutor(len(self.runners)) if len(self.runners) > 1 else None
        self._sums_of = [tf.function(_squares, autograph=False) for _ in self.runners]
        self._apply = [tf.function(self._updating(one), autograph=False) for one in self.runners]
        self._shared = self.runners[0].program

    # ---- what the loop calls ----------------------------------------------------------------------------------

    def train(self, step: int, rate: float, stop: float, batches: Sequence[Any]) -> np.ndarray:
        """Take one step; returns float64[4], sums over the global batch."""
        part = self.slices[0]
        sums = self._all(lambda one: one.step(step, part, batches[0]), self.runners)
        began = time.perf_counter()
        sums = [self._over_replicas(one) for one in sums]
        total = self._over_stages(sums, stop)
        self.exchange_seconds += time.perf_counter() - began
        finite = bool(np.isfinite(total[NORM]))
        if finite or not self.scale.dynamic:
            divisor = total[COUNT] * (float(self.scale.value) if self.scale.dynamic else 1.0)
            norm = np.sqrt(total[NORM]) / divisor
            for runner, apply, one in zip(self.runners, self._apply, sums, strict=True):
                with runner.on_device():
                    numbers = [tf.constant(value, tf.float64) for value in (rate, total[COUNT], divisor, norm)]
                    apply(*numbers, one.gradients, one.moved)
        if self.scale.dynamic:
            self.scale.adjust(tf.constant(finite))
        return total[: STOP + 1]

    def validate(self, batches: Sequence[Any]) -> np.ndarray:
        """float64[4] of sums over this replica's part, from its last stage alone."""
        return np.asarray(np.sum(self._all(lambda one: one.judged(batches[0]), self._inferences), axis=0))

    def predict(self, inputs: Any) -> np.ndarray:
        """Outputs for raw ``inputs`` on the first stage; on the others an array without examples."""

        def run(one: Inference) -> Any:
            outputs = one.infer(inputs)
            one.inferred()
            return one.returned(outputs)

        first = self._all(run, self._inferences)[0]
        return np.zeros((0,)) if first is None else np.asarray(first)

    def state(self) -> Mapping[str, np.ndarray]:
        """The weights and the optimiser of the stages here, by the names of the whole model."""
        found = Lazily(self.scale.state() if self.runners[0].first else {})
        for names, runner in zip(self.names, self.runners, strict=True):
            found = found.joined(names.state(runner.program))
        return found

    def whole_state(self) -> dict[str, np.ndarray]:
        """The state of all stages, on the first stage of each replica; elsewhere what has passed by."""
        state = dict(self.state())
        if len(self.runners) > 1:
            return state
        runner = self.runners[0]
        if not runner.last:
            state.update(runner.messages.receive_named(runner.index + 1))
        if not runner.first:
            runner.messages.send_named(runner.index - 1, state)
        return state

    def restore(self, state: dict[str, np.ndarray], optimizer: bool = True) -> None:
        """Take what the stages here need of a whole state."""
        for names, runner in zip(self.names, self.runners, strict=True):
            names.restore(runner.program, state, optimizer)
        if optimizer:
            self.scale.restore(state)

    def make_identical(self) -> None:
        """Give the replicas of a stage the weights and the optimiser of the first one."""
        for runner in self.runners:
            optimizer = keras_compat.optimizer_state(runner.program.optimizer, runner.variables).values()
            variables = [keras_compat.tensor_of(one) for one in (*runner.stage.weights, *optimizer)]
            self.grid.make_identical_replicas(variables)

    def measured(self) -> dict[str, Any]:
        """What telemetry adds to the window that ends now, and begins the next."""
        spent = [runner.messages.spent for runner in self.runners]
        exchange, self.exchange_seconds = self.exchange_seconds, 0.0
        for runner in self.runners:
            runner.messages.spent = Spent()
        return {
            "stage": self.runners[0].index if len(self.runners) == 1 else None,
            "stages": self.runners[0].how.stages if len(self.runners) == 1 else None,
            "bubble_seconds": float(np.mean([one.waiting for one in spent])),
            "transfer_seconds": float(np.mean([one.transfer for one in spent])),
            "exchange_seconds": exchange,
            "memory_start_bytes": self.memory_start_bytes,
        }

    # ---- parts of a step ---------------------------------------------------------------------------------------

    def _all(self, work: Callable[[Of], Any], stages: Sequence[Of]) -> list[Any]:
        """``work`` on every stage here at the same time."""
        if self._threads is None:
            return [work(stages[0])]
        return list(self._threads.map(work, stages))

    def _over_replicas(self, sums: Sums) -> Sums:
        tensors = self.grid.combine_replicas([*sums.gradients, *sums.moved])
        cut = len(sums.gradients)
        return Sums(list(tensors[:cut]), list(tensors[cut:]), sums.measures)

    def _over_stages(self, sums: Sequence[Sums], stop: float) -> np.ndarray:
        """Measures of all replicas; squares of all stages, of which each replica brings its share."""
        own = np.zeros(NORM + 1)
        own[STOP] = stop
        for runner, squares, one in zip(self.runners, self._sums_of, sums, strict=True):
            own[: STOP + 1] += one.measures
            if one.gradients:
                with runner.on_device():
                    own[NORM] += float(squares(one.gradients)) / self.grid.replicas
        return self.grid.total(own)

    def _updating(self, runner: Runner) -> Callable[..., None]:
        program = runner.program

        def update(rate: Any, count: Any, divisor: Any, norm: Any, gradients: list[Any], moved: list[Any]) -> None:
            variable = keras_compat.rate_variable(program.optimizer)
            variable.assign(tf.cast(rate, variable.dtype))
            mean = [one / tf.cast(divisor, one.dtype) for one in gradients]
            if program.clip_norm is not None and mean:
                mean, _ = tf.clip_by_global_norm(mean, program.clip_norm, use_norm=tf.cast(norm, mean[0].dtype))
            elif program.clip_value is not None:
                mean = [tf.clip_by_value(one, -program.clip_value, program.clip_value) for one in mean]
            if mean:
                keras_compat.apply(program.optimizer, mean, runner.variables)
            else:
                program.optimizer.iterations.assign_add(1)
            for statistic, one in zip(runner.statistics, moved, strict=True):
                target = keras_compat.tensor_of(statistic)
                target.assign_add(one / tf.cast(count, one.dtype))

        return update


def _squares(gradients: Sequence[Any]) -> Any:
    """Σ of squares; ``l2_loss`` needs no memory for them."""
    return 2 * tf.add_n([tf.cast(tf.nn.l2_loss(one), tf.float64) for one in gradients])
