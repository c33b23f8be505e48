"""One rank per process, combined by Horovod's allreduce over MPI, Gloo or NCCL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from saman.configs.errors import EnvironmentLack
from saman.configs.experiment import Experiment
from saman.launcher.run_folder import RunFolder
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
        sizes = [(tensor.shape.num_elements() or 1) * tensor.dtype.size for tensor in dense]
        summed: list[Any] = [None] * len(dense)
        for bucket in buckets(sizes, BUCKET_BYTES):
            self._groups += 1
            name = f"saman.combine.{self._groups}"
            group = self._hvd.grouped_allreduce([dense[index] for index in bucket], op=self._hvd.Sum, name=name)
            for index, tensor in zip(bucket, group, strict=True):
                summed[index] = tensor
        return summed

    def total(self, values: np.ndarray) -> np.ndarray:
        summed = self._hvd.allreduce(tf.constant(values, tf.float64), op=self._hvd.Sum, name="saman.total")
        return np.asarray(summed)

    def make_identical(self, variables: Sequence[Any]) -> None:
        self._hvd.broadcast_variables(list(variables), root_rank=0)

    def close(self) -> None:
        self._hvd.shutdown()


def start(experiment: Experiment, run: RunFolder) -> Horovod:
    """Join the other ranks.

    Raises ``EnvironmentLack`` where Horovod is missing, or found another number of ranks than were started.
    """
    try:
        import horovod.tensorflow as hvd
    except ImportError as error:
        problem = f"Horovod for TensorFlow cannot be imported: {error}"
        raise EnvironmentLack(problem, remedy="saman setup; saman doctor says what is missing") from error
    hvd.init()
    expected = int(os.environ.get("SAMAN_SIZE", experiment.resources.ranks))
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
