"""The data-parallel step of an elastic run: one graph for every world, and a ledger of what was applied.

    begun = s + 1 ──► update, once all sums are here ──► Σ measures, applied = s + 1

A step is applied by a rank only when it has the sums of all ranks, and takes part in the next exchange only when it is
applied. So survivors differ by at most one step, and the most advanced has lost nothing. If ``begun`` and ``applied``
differ, the rank was interrupted inside an update and holds no whole state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from saman.trainers import keras_compat
from saman.trainers.data.feed import Slice
from saman.trainers.keras_compat import tf
from saman.trainers.loop.step import DataParallelStep
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.program.program import Program
from saman.trainers.strategies.elastic import ElasticHorovod


@dataclass(frozen=True)
class Books:
    """What the ledger of a step says.

    Attributes:
        step: Optimiser steps applied.
        sums: float64[width]: their measures since the epoch began.
        whole: Whether no update was interrupted.
    """

    step: int
    sums: np.ndarray
    whole: bool


class ElasticStep(DataParallelStep):
    """A ``DataParallelStep`` whose graphs stay valid when the world changes."""

    def __init__(
        self,
        program: Program,
        strategy: ElasticHorovod,
        micro_batches: int,
        scale: LossScale,
        jit_compile: bool,
        compare_every: int | None,
    ) -> None:
        # Variables, so that graphs mention neither rank nor size; on the CPU, like everything that counts.
        with tf.device("CPU:0"):
            self._place_variable = tf.Variable([strategy.ranks[0], strategy.size], dtype=tf.int64)
            self._begun, self._applied = tf.Variable(0, dtype=tf.int64), tf.Variable(0, dtype=tf.int64)
            self._measured = tf.Variable(np.zeros(program.objective.width), dtype=tf.float64)
            self._is_source = tf.Variable(False)
        self._spread = tf.function(self._spread_state, autograph=False)
        super().__init__(program, strategy, micro_batches, scale, jit_compile=jit_compile, compare_every=compare_every)
        self.exchange = True
        self.elastic = strategy
        self.regroup()

    def regroup(self) -> None:
        """Take the place of this process in the new world."""
        rank, size = self.strategy.ranks[0], self.strategy.size
        self.slices = [Slice(rank, size, fixed=False)]
        self._place_variable.assign([rank, size])
        self._share_snapshots(rank, size)

    def open_books(self, step: int, sums: tuple[float, ...]) -> None:
        """Set the ledger to the steps taken, and the sums of the epoch so far."""
        self._begun.assign(step)
        self._applied.assign(step)
        self._measured.assign(sums)

    def void_books(self) -> None:
        """Note that the state is being replaced: until that is complete, this process holds no whole state."""
        self._begun.assign(self._applied + 1)

    def books(self) -> Books:
        """Return what was applied, after a call that failed too."""
        begun, applied = int(self._begun.numpy()), int(self._applied.numpy())
        return Books(applied, np.asarray(self._measured), begun == applied)

    def spread(self, source: int) -> None:
        """Give every rank the whole state of rank ``source``."""
        self._is_source.assign(self.strategy.ranks[0] == source)
        self._spread()

    def make_identical(self) -> None:
        """Give every rank the chief's weights and optimiser state; this also traces what ``spread`` needs."""
        self.spread(0)

    def _spread_state(self) -> None:
        """Σ over ranks of the state of one rank and zeros of the others: a broadcast whose graph names no rank.

        The source takes the sums too: a zero may have lost its sign, and ranks must be equal in every bit.
        """
        kept = [keras_compat.tensor_of(variable) for variable in self.program.variables().values()]
        kept += self.scale.variables().values()
        held = [tf.convert_to_tensor(variable) for variable in kept]
        sent = [tf.where(self._is_source, _summable(value), tf.zeros_like(_summable(value))) for value in held]
        for variable, own, received in zip(kept, held, self.elastic.combine(sent, "spread"), strict=True):
            variable.assign(tf.cast(received, own.dtype))

    def _place(self, part: Slice) -> tuple[Any, Any]:
        return self._place_variable[0], self._place_variable[1]

    def _ranks_now(self) -> Any:
        return self._place_variable[1]

    def _carry_out(self, step: Any, measures: Any, update: Callable[[], Any]) -> None:
        with tf.control_dependencies([measures]):  # the sums of all ranks are here
            begun = self._begun.assign(step + 1)
        with tf.control_dependencies([begun]):
            updated = tf.function(update, autograph=False)()  # a call ends when all that it changes is changed
        with tf.control_dependencies([updated]):
            counted = self._measured.assign_add(measures)
        with tf.control_dependencies([counted]):
            self._applied.assign(step + 1)


def _summable(value: Any) -> Any:
    """Return a tensor in a type that Horovod sums and that holds each of its values."""
    if value.dtype in (tf.float16, tf.float32, tf.float64, tf.int32, tf.int64):
        return value
    return tf.cast(value, tf.float32 if value.dtype == tf.bfloat16 else tf.int64)
