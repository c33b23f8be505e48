"""Pipelined optimiser step: stages run their passes, then gradients, norms and counts are summed.

stages here ──► Σ over micro-batches ──► Σ over the stage's replicas (its process set)
                   [loss, correct, count, stop, ‖gradient‖²] ──► Σ over all ranks
                                   ÷ global count ──► clip by the norm of all stages ──► each stage's optimiser
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from saman.runs.ranks.training_events import Notice
from saman.trainers import keras_compat
from saman.trainers.data.feed import Slice
from saman.trainers.health.signs import FLAG, first_not_finite
from saman.trainers.keras_compat import tf
from saman.trainers.loop.interfaces import TrainMany
from saman.trainers.loop.step_times import StepTotals
from saman.trainers.pipeline.inference import StageInference
from saman.trainers.pipeline.messages import MessageTime
from saman.trainers.pipeline.runner import StageRunner
from saman.trainers.pipeline.state import LazyArrays, StageVariables
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.program.snapshot import VariableSnapshot
from saman.trainers.program.sums import COUNT, LOSS, STOP, Sums

T = TypeVar("T")
NORM = -1  # index of Σ gradient², behind the measures; not finite if any gradient is not


class Grid(Protocol):
    """What a pipelined step needs from its strategy, a grid of stages × replicas.

    Attributes:
        replica: The number of this process's replica.
        replicas: The number of replicas.
        chief: Whether rank 0 is in this process.
    """

    replica: int
    replicas: int
    chief: bool

    def combine_replicas(self, tensors: Sequence[Any]) -> list[Any]:
        """Return Σ over the replicas of this process's stage, for each tensor."""

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return Σ over all processes of a float64 vector."""

    def make_identical_replicas(self, variables: Sequence[Any]) -> None:
        """Give all replicas of this process's stage the values of the first replica."""


@dataclass
class WorkTime:
    """The work of a process in a telemetry window: wall seconds of the passes, CPU seconds of all threads by part."""

    pass_seconds: float = 0.0
    pass_cpu_seconds: float = 0.0
    exchange_cpu_seconds: float = 0.0
    update_cpu_seconds: float = 0.0

    def add(self, passes: float, pass_cpu: float, exchange_cpu: float, update_cpu: float) -> None:
        """Add a pipeline step; ``passes`` and ``pass_cpu`` include messages."""
        self.pass_seconds += passes
        self.pass_cpu_seconds += pass_cpu
        self.exchange_cpu_seconds += exchange_cpu
        self.update_cpu_seconds += update_cpu

    def without_messages(self, spent: MessageTime) -> dict[str, float]:
        """The fields of a pipeline step's window, without waiting for messages and sending them."""
        wall = self.pass_seconds - spent.waiting_seconds - spent.transfer_seconds
        cpu = self.pass_cpu_seconds - spent.cpu_seconds
        return {**asdict(self), "pass_seconds": max(0.0, wall), "pass_cpu_seconds": max(0.0, cpu)}


class PipelineStep:
    """An ``OptimizerStep`` of the stages in this process: one stage of a grid, or all stages on devices of their own.

    Attributes:
        memory_start_bytes: Resident memory of the process before its stages were built.
    """

    def __init__(
        self, runners: Sequence[StageRunner], variables: Sequence[StageVariables], grid: Grid, scale: LossScale
    ) -> None:
        self.runners, self.variables, self.grid, self.scale = list(runners), list(variables), grid, scale
        self.slices = [Slice(grid.replica, grid.replicas)]
        self.counts_examples = self.runners[0].first
        self.train_many: TrainMany | None = None
        self.part = self.runners[0].index if grid.replica == 0 else None
        self.parts = 1 if len(self.runners) > 1 else self.runners[0].plan.stages
        self.divided: Mapping[str, tuple[int, ...]] = {}
        self._snapshot = VariableSnapshot(self._variables_here())
        self.stage = self.runners[0].index if len(self.runners) == 1 else None
        self.exchange_seconds = 0.0
        self.work = WorkTime()
        self.memory_start_bytes: int | None = None
        self.notices: tuple[Notice, ...] = ()
        self.width = self.runners[0].program.objective.width
        self.variable_names = tuple(keras_compat.name_of(each) for runner in self.runners for each in runner.variables)
        self._inferences = [StageInference(runner) for runner in self.runners]
        self._threads = ThreadPoolExecutor(len(self.runners)) if len(self.runners) > 1 else None
        self._square_sums = [tf.function(_square_sum, autograph=False) for _ in self.runners]
        self._firsts = [tf.function(first_not_finite, autograph=False) for _ in self.runners]
        self._updates = [tf.function(_update_function(runner), autograph=False) for runner in self.runners]

    # ---- what the loop calls; see ``OptimizerStep`` -----------------------------------------------------------

    def train(self, step: int, rate: float, stop: float, batches: Sequence[Any]) -> StepTotals:
        """Take one step; the window has its times, and no step has time stamps."""
        part = self.slices[0]
        entered, cpu = time.perf_counter(), time.process_time()
        sums = self._on_every_stage(lambda runner: runner.step(step, part, batches[0]), self.runners)
        began, passed_cpu = time.perf_counter(), time.process_time()
        firsts = self._first_not_finite(sums) if self.grid.replicas > 1 else None  # before replicas are summed
        sums = [self._sum_over_replicas(stage_sums) for stage_sums in sums]
        total = self._sum_over_stages(sums, stop)
        self.exchange_seconds += time.perf_counter() - began
        exchanged_cpu = time.process_time()
        finite = bool(np.isfinite(total[NORM]))
        signs = self._signs(firsts or self._first_not_finite(sums), total) if not finite else None
        if finite or not self.scale.dynamic:
            self._update(sums, total, rate)
        update_cpu = time.process_time() - exchanged_cpu
        self.work.add(began - entered, passed_cpu - cpu, exchanged_cpu - passed_cpu, update_cpu)
        if self.scale.dynamic:
            self.scale.adjust(tf.constant(finite))
        return StepTotals(total[:NORM], signs=signs)

    def validate(self, batches: Sequence[Any]) -> np.ndarray:
        """Return float64[width] measures of this replica's examples on the process of the last stage, else zeros."""
        with self._untimed():
            measures = self._on_every_stage(lambda inference: inference.validate(batches[0]), self._inferences)
        return np.asarray(np.sum(measures, axis=0))

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the outputs for raw ``inputs`` on the first stage; an array without examples on the others."""

        def run(inference: StageInference) -> Any:
            outputs = inference.infer(inputs)
            inference.grant_credit()
            return inference.return_to_first(outputs)

        with self._untimed():
            first = self._on_every_stage(run, self._inferences)[0]
        return np.zeros((0,)) if first is None else np.asarray(first)

    def state(self) -> Mapping[str, np.ndarray]:
        """Return weights and optimiser state of the stages here, by their names in the whole model."""
        state = LazyArrays(self.scale.state() if self.runners[0].first else {})
        for variables, runner in zip(self.variables, self.runners, strict=True):
            state |= variables.state(runner.program)
        return state

    def checksums(self) -> np.ndarray | None:
        """Return ``None``: the ranks of a pipeline hold different layers."""
        return None

    def bad_weight(self) -> str | None:
        """Return the name of the first weight of the stages here with a value that is not finite."""
        names = iter(self.variable_names)
        for runner in self.runners:
            for variable, name in zip(runner.variables, names, strict=False):
                if not np.isfinite(keras_compat.as_array(variable)).all():
                    return name
        return None

    def snapshot(self) -> dict[str, np.ndarray]:
        """Return the values of ``state()``; later steps do not change them."""
        return self._snapshot()

    def _variables_here(self) -> dict[str, Any]:
        here = dict(self.scale.variables() if self.runners[0].first else {})
        for variables, runner in zip(self.variables, self.runners, strict=True):
            here |= variables.variables(runner.program)
        return here

    def whole_state(self) -> dict[str, np.ndarray]:
        """Return the state of all stages on the first stage of each replica; later stages return a part of it."""
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
        """Load what the stages here need from the state of the whole model."""
        for variables, runner in zip(self.variables, self.runners, strict=True):
            variables.restore(runner.program, state, optimizer)
        if optimizer:
            self.scale.restore(state)

    def make_identical(self) -> None:
        """Give all replicas of a stage the weights and the optimiser state of the first replica."""
        for runner in self.runners:
            optimizer = keras_compat.optimizer_state(runner.program.optimizer, runner.variables).values()
            variables = [keras_compat.tensor_of(variable) for variable in (*runner.stage.weights, *optimizer)]
            self.grid.make_identical_replicas(variables)

    def results(self, sums: np.ndarray) -> dict[str, float]:
        """Return the metrics by name for sums over examples."""
        return self.runners[0].program.objective.results(sums)

    def swap_average(self) -> None:
        """Do nothing: a pipeline has no moving average."""

    def close_window(self) -> dict[str, Any]:
        """Return the pipeline's fields of the telemetry window that ends now, and start the next window."""
        times = [runner.messages.time for runner in self.runners]
        exchange, self.exchange_seconds = self.exchange_seconds, 0.0
        work, self.work = self.work, WorkTime()
        for runner in self.runners:
            runner.messages.time = MessageTime()
        alone = len(self.runners) == 1
        return {
            "stage": self.runners[0].index if alone else None,
            "stages": self.runners[0].plan.stages if alone else None,
            "bubble_seconds": float(np.mean([spent.waiting_seconds for spent in times])),
            "transfer_seconds": float(np.mean([spent.transfer_seconds for spent in times])),
            "exchange_seconds": exchange,
            **(work.without_messages(times[0]) if alone else {}),  # a process clock cannot tell stages apart
            "memory_start_bytes": self.memory_start_bytes,
        }

    @contextmanager
    def _untimed(self) -> Iterator[None]:
        """Keep messages of inference out of the telemetry: their time belongs to no step."""
        kept = [replace(runner.messages.time) for runner in self.runners]
        try:
            yield
        finally:
            for runner, spent in zip(self.runners, kept, strict=True):
                runner.messages.time = spent

    # ---- parts of a step ---------------------------------------------------------------------------------------

    def _on_every_stage(self, work: Callable[[T], Any], stages: Sequence[T]) -> list[Any]:
        """Call ``work`` for every stage here at the same time."""
        if self._threads is None:
            return [work(stages[0])]
        return list(self._threads.map(work, stages))

    def _sum_over_replicas(self, sums: Sums) -> Sums:
        tensors = self.grid.combine_replicas([*sums.gradients, *sums.moved])
        return sums.with_tensors([*tensors, sums.measures])

    def _sum_over_stages(self, sums: Sequence[Sums], stop: float) -> np.ndarray:
        """Return float64[width + 1] over all ranks: measures, and Σ gradient², to which each replica adds its share."""
        own = np.zeros(self.width + 1)
        own[STOP] = stop
        for runner, square_sum, stage_sums in zip(self.runners, self._square_sums, sums, strict=True):
            own[:NORM] += stage_sums.measures
            if stage_sums.gradients:
                with runner.on_device():
                    own[NORM] += float(square_sum(stage_sums.gradients)) / self.grid.replicas
        return self.grid.total(own)

    def _first_not_finite(self, sums: Sequence[Sums]) -> list[int]:
        """Return, for each stage here, the number of its first variable with such a gradient; 0 for none."""
        found = []
        for runner, first, stage_sums in zip(self.runners, self._firsts, sums, strict=True):
            with runner.on_device():
                found.append(int(first(stage_sums.gradients)))
        return found

    def _signs(self, firsts: Sequence[int], total: np.ndarray) -> np.ndarray | None:
        """Return the signs of a step whose gradients are not finite; ``None`` if a smaller loss scale may help."""
        if self.scale.dynamic and float(self.scale.value) > 1.0 and np.isfinite(total[LOSS]):
            return None
        rows = np.zeros((1, len(self.runners), 1 + len(self.variable_names)))
        rows[..., FLAG] = np.nan
        before = np.cumsum([0, *(len(runner.variables) for runner in self.runners[:-1])])
        for stage, (first, ahead) in enumerate(zip(firsts, before, strict=True)):
            if first:
                rows[0, stage, ahead + first] = np.nan
        return rows

    def _update(self, sums: Sequence[Sums], total: np.ndarray, rate: float) -> None:
        """Update the weights and statistics of the stages here from the sums over all ranks."""
        divisor = total[COUNT] * (float(self.scale.value) if self.scale.dynamic else 1.0)
        norm = np.sqrt(total[NORM]) / divisor
        for runner, update, stage_sums in zip(self.runners, self._updates, sums, strict=True):
            with runner.on_device():
                numbers = [tf.constant(value, tf.float64) for value in (rate, total[COUNT], divisor, norm)]
                update(*numbers, stage_sums.gradients, stage_sums.moved)


def _update_function(runner: StageRunner) -> Callable[..., None]:
    """Return the function that updates a stage from gradient sums, given the norm of the whole model's gradient."""
    program = runner.program

    def update(rate: Any, count: Any, divisor: Any, norm: Any, gradients: list[Any], moved: list[Any]) -> None:
        variable = keras_compat.rate_variable(program.optimizer)
        variable.assign(tf.cast(rate, variable.dtype))
        mean = [gradient / tf.cast(divisor, gradient.dtype) for gradient in gradients]
        if program.clip_norm is not None and mean:
            mean, _ = tf.clip_by_global_norm(mean, program.clip_norm, use_norm=tf.cast(norm, mean[0].dtype))
        elif program.clip_value is not None:
            mean = [tf.clip_by_value(gradient, -program.clip_value, program.clip_value) for gradient in mean]
        if mean:
            keras_compat.apply(program.optimizer, mean, runner.variables)
        else:
            program.optimizer.iterations.assign_add(1)
        for statistic, move in zip(runner.statistics, moved, strict=True):
            keras_compat.tensor_of(statistic).assign_add(move / tf.cast(count, move.dtype))

    return update


def _square_sum(gradients: Sequence[Any]) -> Any:
    """Return Σ gradient² as float64; ``l2_loss`` needs no memory for the squares."""
    return 2 * tf.add_n([tf.cast(tf.nn.l2_loss(gradient), tf.float64) for gradient in gradients])
