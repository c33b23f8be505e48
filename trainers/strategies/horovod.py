"""One rank per process, combined by Horovod's allreduce over MPI, Gloo or NCCL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.experiment import Experiment
from saman.runs import variables
from saman.runs.folder import RunFolder
from saman.runs.ranks.identity import identify
from saman.trainers.keras_compat import tf
from saman.trainers.strategies.base import R, T, buckets
from saman.trainers.strategies.devices import claim

BUCKET_BYTES = 32 << 20


class Horovod:
    """Ranks are Horovod's. Every sum is used by the caller: an unused one is pruned and its peers wait for ever."""

    name = "horovod"

    def __init__(self, hvd: Any) -> None:
        self._hvd = hvd
        self.size = int(hvd.size())
        self.ranks = (int(hvd.rank()),)
        self.chief = hvd.rank() == 0
        self._groups = 0

    def scope(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        return [function(0, inputs[0])]

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        dense = [tf.convert_to_tensor(tensor) for tensor in tensors]
        summed: list[Any] = [None] * len(dense)
        for dtype in sorted({one.dtype for one in dense}, key=lambda one: one.name):  # a group has one type
            places = [place for place, one in enumerate(dense) if one.dtype == dtype]
            sizes = [(dense[place].shape.num_elements() or 1) * dtype.size for place in places]
            for bucket in buckets(sizes, BUCKET_BYTES):
                self._sum_group(dense, summed, [places[index] for index in bucket])
        return summed

    def _sum_group(self, tensors: Sequence[Any], summed: list[Any], places: Sequence[int]) -> None:
        """Exchange the tensors at ``places`` as one message, under a name that is the same on all ranks."""
        self._groups += 1
        name = f"saman.combine.{self._groups}"
        group = self._hvd.grouped_allreduce([tensors[place] for place in places], op=self._hvd.Sum, name=name)
        for place, tensor in zip(places, group, strict=True):
            summed[place] = tensor

    def total(self, values: np.ndarray) -> np.ndarray:
        summed = self._hvd.allreduce(tf.constant(values, tf.float64), op=self._hvd.Sum, name="saman.total")
        return np.asarray(summed)

    def make_identical(self, variables: Sequence[Any]) -> None:
        self._hvd.broadcast_variables(list(variables), root_rank=0)

    def close(self) -> None:
        self._hvd.shutdown()


def imported() -> Any:
    """``horovod.tensorflow``; raises ``EnvironmentLack`` where it is missing."""
    try:
        import horovod.tensorflow as hvd
    except ImportError as error:
        problem = f"Horovod for TensorFlow cannot be imported: {error}"
        raise EnvironmentLack(problem, remedy="saman setup; saman doctor says what is missing") from error
    return hvd


def start(experiment: Experiment, run: RunFolder, process_sets: Sequence[Any] = ()) -> Horovod:
    """Join the other ranks; ``process_sets`` are made as well.

    Raises ``EnvironmentLack`` where Horovod is missing, or found another number of ranks than were started.
    """
    hvd = imported()
    if identify(os.environ).source == "nobody":  # MPI cannot start alone where its wheel is not told its own place
        os.environ |= {"HOROVOD_CONTROLLER": "gloo", "HOROVOD_CPU_OPERATIONS": "gloo"}
    hvd.init(process_sets=list(process_sets) or None)
    expected = int(os.environ.get(variables.SIZE, experiment.resources.ranks))
    if hvd.size() != expected:
        raise EnvironmentLack(
            f"Horovod found {hvd.size()} ranks, but {expected} were asked for",
            where="start command",
            remedy="the MPI that starts the ranks and the one Horovod was built with may differ: saman doctor"
            if hvd.size() == 1
            else f"start {expected} processes",
        )
    claim(1, experiment.resources.gpus_per_rank, hvd.local_rank())
    return Horovod(hvd)
