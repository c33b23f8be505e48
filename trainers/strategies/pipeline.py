"""A grid of stages × replicas: the ranks of a replica hold a model's stages, one after another."""

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
from saman.trainers.strategies.base import R, T, buckets
from saman.trainers.strategies.devices import claim


class Closing(Protocol):
    """What is closed with the strategy."""

    def close(self) -> None: ...


class PipelineStrategy:
    """Rank = replica · stages + stage: a replica's stages lie next to each other, on one node where they fit."""

    name = "pipeline"

    def __init__(self, joined: horovod.Horovod, hvd: Any, stages: int, replicas_here: Any) -> None:
        self.size, self.ranks, self.chief = joined.size, joined.ranks, joined.chief
        self.stages, self.replicas = stages, joined.size // stages
        self.replica, self.stage = divmod(self.ranks[0], stages)
        self.devices: list[str | None] = [None]
        self.hvd = hvd
        self._joined, self._set = joined, replicas_here
        self._open: list[Closing] = []
        self._tensors = tf.function(self._summed, autograph=False, reduce_retracing=True)

    def scope(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        return [function(0, inputs[0])]

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        return self._joined.combine(tensors)

    def total(self, values: np.ndarray) -> np.ndarray:
        return self._joined.total(values)

    def make_identical(self, variables: Sequence[Any]) -> None:
        raise NotImplementedError("stages hold different layers; see make_identical_replicas")

    def combine_replicas(self, tensors: Sequence[Any]) -> list[Any]:
        """Σ over the replicas of this stage, for each tensor."""
        return list(self._tensors(list(tensors))) if self.replicas > 1 and tensors else list(tensors)

    def _summed(self, tensors: list[Any]) -> list[Any]:
        summed: list[Any] = [None] * len(tensors)
        for dtype in sorted({one.dtype for one in tensors}, key=lambda one: one.name):  # a group has one type
            places = [place for place, one in enumerate(tensors) if one.dtype == dtype]
            sizes = [(tensors[place].shape.num_elements() or 1) * dtype.size for place in places]
            for number, bucket in enumerate(buckets(sizes, horovod.BUCKET_BYTES)):
                group = [places[index] for index in bucket]
                # Stages are different process sets: their messages may bear the same names.
                name = f"saman.replicas.{self.stage}.{dtype.name}.{number}"
                found = self.hvd.grouped_allreduce(
                    [tensors[place] for place in group], op=self.hvd.Sum, name=name, process_set=self._set
                )
                for place, tensor in zip(group, found, strict=True):
                    summed[place] = tensor
        return summed

    def make_identical_replicas(self, variables: Sequence[Any]) -> None:
        """Give all replicas of this stage the values of the first."""
        if self.replicas > 1 and variables:
            self.hvd.broadcast_variables(list(variables), root_rank=self.stage, process_set=self._set)

    def keep(self, opened: Closing) -> None:
        """Close ``opened`` with the strategy."""
        self._open.append(opened)

    def close(self) -> None:
        for opened in self._open:
            opened.close()
        self._joined.close()


class LocalPipelineStrategy:
    """All stages in this process, each on a GPU or a logical device of its own; nothing to combine with."""

    name = "pipeline"
    replica, replicas, chief = 0, 1, True

    def __init__(self, devices: Sequence[str]) -> None:
        self.devices: list[str | None] = list(devices)
        self.size = self.stages = len(devices)
        self.ranks = tuple(range(self.size))

    def scope(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        return [function(here, one) for here, one in enumerate(inputs)]

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        return list(tensors)

    def total(self, values: np.ndarray) -> np.ndarray:
        return values

    def make_identical(self, variables: Sequence[Any]) -> None:
        pass

    def combine_replicas(self, tensors: Sequence[Any]) -> list[Any]:
        """The only replica."""
        return list(tensors)

    def make_identical_replicas(self, variables: Sequence[Any]) -> None:
        """The only replica."""

    def close(self) -> None:
        pass


def start(experiment: Experiment, run: RunFolder) -> PipelineStrategy | LocalPipelineStrategy:
    """Join the other ranks of the grid, or claim the devices of this process."""
    spec = experiment.train.pipeline
    assert spec is not None  # the schema gives one to this strategy
    # It would make a copy of a stage's passes for each micro-batch: with 32 of half a ResNet-50, 80 s before the first
    # step instead of 15.
    tf.config.optimizer.set_experimental_options({"function_optimization": False})
    if spec.devices == "local":
        if "TF_NUM_INTEROP_THREADS" not in os.environ:  # a stage may hold a thread while it waits for a message
            tf.config.threading.set_inter_op_parallelism_threads(max(spec.stages, os.cpu_count() or 1))
        return LocalPipelineStrategy(claim(spec.stages, experiment.resources.gpus_per_rank))
    hvd = horovod.imported()
    size = experiment.resources.ranks
    sets = [hvd.ProcessSet(range(stage, size, spec.stages)) for stage in range(spec.stages)]
    if spec.stages == 1 or size == spec.stages:
        sets = []  # the global set, which may not be asked for again; or replicas alone with themselves
    joined = horovod.start(experiment, run, sets)
    here = sets[joined.ranks[0] % spec.stages] if sets else hvd.global_process_set
    return PipelineStrategy(joined, hvd, spec.stages, here)
