"""A grid of stages × replicas: the ranks of a replica hold the model's stages in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import numpy as np

from saman.configs.schemas.experiment import Experiment
from saman.runs.folder import RunFolder
from saman.trainers.keras_compat import tf
from saman.trainers.strategies import horovod
from saman.trainers.strategies.base import R, T, plan_exchange
from saman.trainers.strategies.devices import claim


class Closable(Protocol):
    """A resource that the strategy closes."""

    def close(self) -> None:
        """Free the resource."""


class PipelineStrategy:
    """Rank = replica · stages + stage, so that a replica's stages share a node if they fit."""

    name = "pipeline"
    loops_in_graph = False

    def __init__(self, joined: horovod.HorovodStrategy, hvd: Any, stages: int, replicas_here: Any) -> None:
        self.size, self.ranks, self.chief = joined.size, joined.ranks, joined.chief
        self.stages, self.replicas = stages, joined.size // stages
        self.replica, self.stage = divmod(self.ranks[0], stages)
        self.devices: list[str | None] = [None]
        self.hvd = hvd
        self._joined, self._set = joined, replicas_here
        self._open: list[Closable] = []
        self._sum = tf.function(self._sum_over_replicas, autograph=False, reduce_retracing=True)

    def scope(self) -> AbstractContextManager[Any]:
        """Return an empty context: every stage has its own variables."""
        return nullcontext()

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        """Call ``function`` for the only rank of this process."""
        return [function(0, inputs[0])]

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        """Return Σ over all ranks, stages included."""
        return self._joined.combine(tensors)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return Σ over all ranks of a float64 vector."""
        return self._joined.total(values)

    def make_identical(self, variables: Sequence[Any]) -> None:
        """Raise ``NotImplementedError``: only replicas of a stage hold the same layers."""
        raise NotImplementedError("stages hold different layers; see make_identical_replicas")

    def combine_replicas(self, tensors: Sequence[Any]) -> list[Any]:
        """Return Σ over the replicas of this stage, for each tensor."""
        return list(self._sum(list(tensors))) if self.replicas > 1 and tensors else list(tensors)

    def _sum_over_replicas(self, tensors: list[Any]) -> list[Any]:
        summed: list[Any] = [None] * len(tensors)
        for number, places in enumerate(plan_exchange(tensors, horovod.BUCKET_BYTES)):
            name = f"saman.replicas.{self.stage}.{number}"
            group = self.hvd.grouped_allreduce(
                [tensors[place] for place in places], op=self.hvd.Sum, name=name, process_set=self._set
            )
            for place, tensor in zip(places, group, strict=True):
                summed[place] = tensor
        return summed

    def make_identical_replicas(self, variables: Sequence[Any]) -> None:
        """Give all replicas of this stage the values of the first replica."""
        if self.replicas > 1 and variables:
            self.hvd.broadcast_variables(list(variables), root_rank=self.stage, process_set=self._set)

    def close_later(self, opened: Closable) -> None:
        """Close ``opened`` with the strategy."""
        self._open.append(opened)

    def close(self) -> None:
        """Close the opened resources, then leave Horovod."""
        for opened in self._open:
            opened.close()
        self._joined.close()


class OneProcessPipelineStrategy:
    """All stages in this process, each on a GPU or a logical device of its own; there are no other ranks."""

    name = "pipeline"
    loops_in_graph = False
    replica, replicas, chief = 0, 1, True

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices: list[str | None] = list(devices)
        self.size = self.stages = len(devices)
        self.ranks = tuple(range(self.size))

    def scope(self) -> AbstractContextManager[Any]:
        """Return an empty context: the stages place their variables themselves."""
        return nullcontext()

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        """Call ``function`` for every stage, in order."""
        return [function(here, value) for here, value in enumerate(inputs)]

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        """Return the tensors: there is no other process."""
        return list(tensors)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the values: there is no other process."""
        return values

    def make_identical(self, variables: Sequence[Any]) -> None:
        """Do nothing: there is no other process."""

    def combine_replicas(self, tensors: Sequence[Any]) -> list[Any]:
        """Return the tensors: this is the only replica."""
        return list(tensors)

    def make_identical_replicas(self, variables: Sequence[Any]) -> None:
        """Do nothing: this is the only replica."""

    def close(self) -> None:
        """Do nothing: nothing was opened."""


def start(experiment: Experiment, run: RunFolder) -> PipelineStrategy | OneProcessPipelineStrategy:
    """Join the other ranks of the grid, or claim the devices of this process."""
    spec = experiment.train.pipeline
    assert spec is not None  # the schema requires it for this strategy
    # Function optimisation would copy a stage's passes for each micro-batch: with 32 of half a ResNet-50, 80 s before
    # the first step instead of 15 s.
    tf.config.optimizer.set_experimental_options({"function_optimization": False})
    if spec.devices == "local":
        if "TF_NUM_INTEROP_THREADS" not in os.environ:  # a stage that waits for a message may hold a thread
            tf.config.threading.set_inter_op_parallelism_threads(max(spec.stages, os.cpu_count() or 1))
        return OneProcessPipelineStrategy(claim(spec.stages, experiment.resources.gpus_per_rank))
    hvd = horovod.import_horovod()
    size = experiment.resources.ranks
    sets = [hvd.ProcessSet(range(stage, size, spec.stages)) for stage in range(spec.stages)]
    if spec.stages == 1 or size == spec.stages:
        sets = []  # Horovod refuses a copy of the global set, and a single replica needs no sums
    joined = horovod.start(experiment, run, sets)
    here = sets[joined.ranks[0] % spec.stages] if sets else hvd.global_process_set
    return PipelineStrategy(joined, hvd, spec.stages, here)
