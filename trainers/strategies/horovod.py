"""A rank per process, combined by Horovod's allreduce over MPI, Gloo or NCCL."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.launch.exchange import Exchange
from saman.configs.units import parse_size
from saman.runs.folder import RunFolder
from saman.runs.ranks.identity import identify
from saman.trainers.identity import world_size
from saman.trainers.keras_compat import tf
from saman.trainers.strategies.base import R, T, plan_exchange
from saman.trainers.strategies.devices import claim
from saman.trainers.strategies.gradient_exchange import GradientExchange

BUCKET_BYTES = 32 << 20


class HorovodStrategy:
    """Ranks are Horovod's.

    Callers must use every sum: TensorFlow prunes an unused sum, and the other ranks then wait for ever.
    """

    name = "horovod"
    loops_in_graph = True

    def __init__(self, hvd: Any, bucket_bytes: int = BUCKET_BYTES) -> None:
        """Join: ``bucket_bytes`` of gradients are a message."""
        self._hvd, self._bucket_bytes = hvd, bucket_bytes
        self.size = int(hvd.size())
        self.ranks: tuple[int, ...] = (int(hvd.rank()),)
        self.chief = hvd.rank() == 0
        self._groups = 0

    def scope(self) -> AbstractContextManager[Any]:
        """Return an empty context: every process has its own variables."""
        return nullcontext()

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        """Call ``function`` for the only rank of this process."""
        return [function(0, inputs[0])]

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        """Return Σ over all ranks, in buckets."""
        dense = [tf.convert_to_tensor(tensor) for tensor in tensors]
        if self.size == 1:
            return dense
        summed: list[Any] = [None] * len(dense)
        for places in plan_exchange(dense, self._bucket_bytes):
            self._groups += 1  # names are the same on all ranks
            name = f"saman.combine.{self._groups}"
            group = self._hvd.grouped_allreduce([dense[place] for place in places], op=self._hvd.Sum, name=name)
            for place, tensor in zip(places, group, strict=True):
                summed[place] = tensor
        return summed

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return Σ over all ranks of a float64 vector."""
        summed = self._hvd.allreduce(tf.constant(values, tf.float64), op=self._hvd.Sum, name="saman.total")
        return np.asarray(summed)

    def gradient_exchange(self, options: Exchange, examples_per_rank: float) -> GradientExchange | None:
        """Return the exchange of gradients apart from everything else; ``None`` if the options need none."""
        if options.is_plain or self.size == 1:
            return None
        return GradientExchange(self._hvd, options, examples_per_rank)

    def make_identical(self, variables: Sequence[Any]) -> None:
        """Broadcast the variables of rank 0."""
        self._hvd.broadcast_variables(list(variables), root_rank=0)

    def close(self) -> None:
        """Leave Horovod."""
        self._hvd.shutdown()


def import_horovod() -> Any:
    """Return ``horovod.tensorflow``; raise ``EnvironmentLack`` if it cannot be imported."""
    try:
        import horovod.tensorflow as hvd
    except ImportError as error:
        problem = f"Horovod for TensorFlow cannot be imported: {error}"
        raise EnvironmentLack(problem, remedy="run saman setup; saman doctor shows what is missing") from error
    return hvd


def start(experiment: Experiment, run: RunFolder, process_sets: Sequence[Any] = ()) -> HorovodStrategy:
    """Join the other ranks.

    Args:
        experiment: The experiment.
        run: The run folder.
        process_sets: Horovod's process sets to create, for sums over some of the ranks.

    Raises:
        EnvironmentLack: Horovod is missing, or finds another number of ranks than were started.
    """
    if experiment.train.deterministic:  # messages of changing sizes are added up in changing orders
        os.environ |= {"HOROVOD_DISABLE_GROUP_FUSION": "1", "HOROVOD_FUSION_THRESHOLD": "0"}
    hvd = import_horovod()
    if identify(os.environ).is_alone:  # started alone: MPI's wheel needs mpirun to find itself
        os.environ |= {"HOROVOD_CONTROLLER": "gloo", "HOROVOD_CPU_OPERATIONS": "gloo"}
    own_sets = [hvd.ProcessSet(ranks) for ranks in experiment.train.exchange.process_sets]
    hvd.init(process_sets=[*process_sets, *own_sets] or None)
    expected = world_size(os.environ, experiment)
    if hvd.size() != expected:
        raise EnvironmentLack(
            f"Horovod found {hvd.size()} ranks instead of {expected}",
            where="start command",
            remedy="check with saman doctor that the MPI that starts the ranks is the MPI that Horovod was built with"
            if hvd.size() == 1
            else f"start {expected} processes",
        )
    claim(1, experiment.resources.gpus_per_rank, hvd.local_rank())
    return HorovodStrategy(hvd, parse_size(experiment.train.exchange.bucket))
