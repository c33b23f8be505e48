"""Gradients exchanged by Horovod apart from everything else: compressed, by Adasum, or by the rows of an embedding."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.launch.exchange import Exchange
from saman.configs.units import parse_size
from saman.trainers.keras_compat import tf
from saman.trainers.strategies.base import plan_exchange


class GradientExchange:
    """In the graph of a rank, Σ over all ranks of the gradients; every rank calls it at the same place."""

    def __init__(self, hvd: Any, options: Exchange, examples_per_rank: float) -> None:
        """Prepare the exchange.

        Args:
            hvd: ``horovod.tensorflow``.
            options: The user's choices.
            examples_per_rank: Of a step; half precision holds a gradient per example, not their sum.

        Raises:
            EnvironmentLack: The ranks are not connected by MPI, which Adasum needs.
        """
        self._hvd, self._options, self._unit = hvd, options, examples_per_rank
        self._bytes = parse_size(options.bucket)
        self._messages = 0
        if options.reduction == "adasum" and not hvd.mpi_enabled():
            problem = "Horovod's Adasum needs MPI, and these ranks are connected by Gloo"
            raise EnvironmentLack(problem, where="train.exchange.reduction", remedy="launch.with=mpirun")

    def __call__(self, gradients: Sequence[Any], sparse: Collection[int], count: Any, total: Any) -> list[Any]:
        """Return Σ over all ranks of each gradient.

        Args:
            gradients: Σ over the examples of this rank, dense.
            sparse: The indices of gradients with few rows that differ from 0.
            count: Examples of this rank, float64.
            total: Examples of all ranks, float64.
        """
        if self._options.reduction == "adasum":
            return [self._adasum(gradient, count, total) for gradient in gradients]
        rows = sorted(sparse) if self._options.sparse == "auto" else []
        dense = [place for place in range(len(gradients)) if place not in rows]
        summed = dict(zip(dense, self._sum_dense([gradients[place] for place in dense]), strict=True))
        if rows:
            summed |= zip(rows, self._sum_rows([gradients[place] for place in rows]), strict=True)
        return [summed[place] for place in range(len(gradients))]

    def _name(self, kind: str) -> str:
        self._messages += 1  # names are the same on all ranks
        return f"saman.{kind}.{self._messages}"

    def _adasum(self, gradient: Any, count: Any, total: Any) -> Any:
        """Combine the ranks' mean gradients; the product with the count keeps to sums, as the step expects."""
        mean = tf.math.divide_no_nan(gradient, tf.cast(count, gradient.dtype))
        combined = self._hvd.allreduce(mean, op=self._hvd.Adasum, name=self._name("adasum"))
        return combined * tf.cast(total, gradient.dtype)

    def _sum_dense(self, tensors: Sequence[Any]) -> list[Any]:
        summed: list[Any] = [None] * len(tensors)
        combine = {"none": self._sum_whole, "fp16": self._sum_fp16, "bf16": self._sum_bf16}
        for places in plan_exchange(tensors, self._bytes):
            group = combine[self._options.compression]([tensors[place] for place in places])
            for place, tensor in zip(places, group, strict=True):
                summed[place] = tensor
        return summed

    def _sum_whole(self, tensors: Sequence[Any]) -> list[Any]:
        return list(self._hvd.grouped_allreduce(list(tensors), op=self._hvd.Sum, name=self._name("gradients")))

    def _sum_fp16(self, tensors: Sequence[Any]) -> list[Any]:
        small = [tf.cast(tensor / tf.cast(self._unit, tensor.dtype), tf.float16) for tensor in tensors]
        summed = self._sum_whole(small)
        units = [tf.cast(self._unit, tensor.dtype) for tensor in tensors]
        return [tf.cast(half, unit.dtype) * unit for half, unit in zip(summed, units, strict=True)]

    def _sum_bf16(self, tensors: Sequence[Any]) -> list[Any]:
        """Horovod has no bfloat16: each rank adds its share in float32, and only bits travel."""
        ranks = self._hvd.size()
        flat = tf.concat([tf.reshape(tf.cast(tensor, tf.float32), [-1]) for tensor in tensors], 0)
        length = flat.shape[0]
        sent = _bits(tf.pad(flat, [[0, -length % ranks]]))
        shares = _numbers(self._hvd.alltoall(sent, name=self._name("shares")))
        share = tf.reduce_sum(tf.reshape(shares, [ranks, -1]), 0)
        whole = _numbers(self._hvd.allgather(_bits(share), name=self._name("whole")))[:length]
        parts = tf.split(whole, [tensor.shape.num_elements() for tensor in tensors])
        return [
            tf.cast(tf.reshape(part, tensor.shape), tensor.dtype) for part, tensor in zip(parts, tensors, strict=True)
        ]

    def _sum_rows(self, tensors: Sequence[Any]) -> list[Any]:
        """Gather the touched rows of each tensor where they are few over all ranks; else sum it whole."""
        touched = [
            tf.where(tf.reduce_any(tensor != 0, axis=list(range(1, tensor.shape.rank))))[:, 0] for tensor in tensors
        ]
        numbers = tf.stack([tf.size(rows, tf.int64) for rows in touched])
        numbers = self._hvd.allreduce(numbers, op=self._hvd.Sum, name=self._name("rows"))
        summed = []
        for index, (tensor, rows) in enumerate(zip(tensors, touched, strict=True)):
            most = int(self._options.sparse_density * tensor.shape[0])
            names = [self._name(kind) for kind in ("indices", "values", "table")]
            summed.append(tf.cond(numbers[index] <= most, *self._ways(tensor, rows, names)))
        return summed

    def _ways(self, tensor: Any, rows: Any, names: Sequence[str]) -> tuple[Any, Any]:
        """Return two functions that sum a tensor over the ranks: by its touched rows, and whole."""

        def gather() -> Any:
            indices = self._hvd.allgather(rows, name=names[0])
            values = self._hvd.allgather(tf.gather(tensor, rows), name=names[1])
            return tf.ensure_shape(tf.math.unsorted_segment_sum(values, indices, tensor.shape[0]), tensor.shape)

        def whole() -> Any:
            return self._hvd.allreduce(tensor, op=self._hvd.Sum, name=names[2])

        return gather, whole


def _bits(numbers: Any) -> Any:
    return tf.bitcast(tf.cast(numbers, tf.bfloat16), tf.int16)


def _numbers(bits: Any) -> Any:
    return tf.cast(tf.bitcast(bits, tf.bfloat16), tf.float32)
