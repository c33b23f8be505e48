"""Shared by ``mirrored`` and ``multi_worker``: ranks are the replicas of a tf.distribute strategy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from saman.runs.tf_cluster.port_gate import PortGate
from saman.trainers.keras_compat import tf
from saman.trainers.strategies.base import R, T, group_by_type


class DistributedStrategy:
    """Replica i of this process is rank ``ranks[i]``; gradients are summed by the strategy's own allreduce."""

    loops_in_graph = False

    def __init__(self, name: str, strategy: Any, ranks: tuple[int, ...], gate: PortGate | None = None) -> None:
        self.name = name
        self._strategy = strategy
        self.size = int(strategy.num_replicas_in_sync)
        self.ranks = ranks
        self.chief = 0 in ranks
        self._gate = gate  # stands as long as TensorFlow's server, which ends with the process
        self._sum = tf.function(self._sum_of_replicas)

    def scope(self) -> AbstractContextManager[Any]:
        """Return tf.distribute's scope, which mirrors the variables."""
        scope: AbstractContextManager[Any] = self._strategy.scope()
        return scope

    def each_rank(self, function: Callable[[int, T], R], inputs: Sequence[T]) -> list[R]:
        """Call ``function`` on every replica of this process."""

        def on_replica() -> R:
            # Each replica is traced separately; its number is a constant of the trace.
            here = int(tf.get_static_value(_context().replica_id_in_sync_group)) - self.ranks[0]
            return function(here, inputs[here])

        results = self._strategy.run(on_replica)
        local = self._strategy.experimental_local_results
        flat = [local(result) for result in tf.nest.flatten(results, expand_composites=False)]
        return [tf.nest.pack_sequence_as(results, [values[here] for values in flat]) for here in range(len(self.ranks))]

    def combine(self, tensors: Sequence[Any]) -> list[Any]:
        """Return Σ over all replicas, inside a replica."""
        dense = [tf.convert_to_tensor(tensor) for tensor in tensors]
        if len(self.ranks) == self.size:
            return list(_context().all_reduce(tf.distribute.ReduceOp.SUM, dense))
        # Across processes each tensor would cost a round trip: tensors of a type travel together.
        summed: list[Any] = [None] * len(dense)
        for places in group_by_type(dense):
            flat = tf.concat([tf.reshape(dense[place], [-1]) for place in places], 0)
            total = _context().all_reduce(tf.distribute.ReduceOp.SUM, flat)
            parts = tf.split(total, [dense[place].shape.num_elements() for place in places])
            for place, part in zip(places, parts, strict=True):
                summed[place] = tf.reshape(part, dense[place].shape)
        return summed

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return Σ over all processes of a float64 vector."""
        if len(self.ranks) == self.size:
            return values
        return np.asarray(self._sum(tf.constant(values, tf.float64)))

    def _sum_of_replicas(self, values: Any) -> Any:
        """Return Σ over processes: the first replica of each process adds its values, the others zeros."""
        parts = [values if here == 0 else tf.zeros_like(values) for here in range(len(self.ranks))]
        return self.each_rank(lambda _, part: self.combine([part])[0], parts)[0]

    def make_identical(self, variables: Sequence[Any]) -> None:
        """Do nothing: tf.distribute gave every replica the chief's initial values when it made the variables."""

    def close(self) -> None:
        """Do nothing: TensorFlow's server ends with the process."""


def _context() -> Any:
    return tf.distribute.get_replica_context()
