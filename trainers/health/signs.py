"""Signs of failure that every step carries through the exchange of its gradients.

Each rank adds a few numbers to the tensors that it exchanges anyway: a sum that is not finite if a gradient of its own
is not, and, in the steps that compare ranks, a checksum of its weights. From their sums every rank draws the same
conclusion.

    own gradients ─► sum of each ───────┐                        ┌─► whether a rank has a gradient that is not finite
                                        ├─ summed over all ranks ┤
    own weights ─► checksum ─► pieces ──┘                        └─► whether all checksums are equal

A graph only sums; ``Judge`` looks at the sums when a window closes. Checksums are equal exactly if size · Σ p² = (Σ p)²
for each of their pieces p (Cauchy and Schwarz); pieces are short enough for float32 to hold these sums exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saman.trainers.keras_compat import tf

PIECES = 4
BITS = 64  # of a checksum
MANTISSA_BITS = 24  # of float32
_GOLDEN = 0x9E3779B97F4A7C15  # odd part of 2⁶⁴ ÷ φ: spreads every bit over the bits above it

FLAG, DIFFERS, HIGH, LOW = range(4)  # indices into a rank's row of signs, before the sums of its gradients
COMPARED = 4  # columns before these sums where ranks are compared


class Signs:
    """Adds the signs of a rank to its exchange, and reads those of all ranks from the sums.

    A row of signs ends with the sum of each gradient of this rank. Before them stands, if there is an exchange, a flag
    that is finite only if all gradients of all ranks are. If weights are compared, three numbers follow the flag:
    whether the weights of ranks differ, and both halves of this rank's checksum (0 if the step does not compare).
    """

    def __init__(self, most_ranks: int, compare_every: int | None) -> None:
        """Prepare the signs.

        Args:
            most_ranks: The largest number of ranks that take a step together.
            compare_every: Steps between two comparisons of the ranks' weights; ``None`` for no comparison.
        """
        self._most, self._every = most_ranks, compare_every

    @property
    def compares(self) -> bool:
        """Whether the ranks' weights are compared."""
        return self._every is not None and self._most > 1

    def type_of(self, kinds: Sequence[Any]) -> Any:
        """Return the type of a row, from the types of the gradients."""
        return tf.float64 if self.compares or tf.float64 in kinds else tf.float32

    def own(self, gradients: Sequence[Any], masked: Any | None, step: Any, weights: Sequence[Any]) -> tuple[Any, Any]:
        """Return what this rank adds to its exchange, and the part of its row that concerns it alone.

        Args:
            gradients: This rank's sums of gradients.
            masked: Whether a gradient that is not finite is expected, as with a loss scale that is too large;
                ``None`` for never.
            step: The number of the step, counted from 0.
            weights: The local values of the weights to compare.
        """
        sums = sum_each(gradients)
        if masked is not None:
            sums = tf.where(masked, tf.zeros_like(sums), sums)
        flag = tf.reshape(tf.reduce_sum(sums), [1])
        if not self.compares:
            return flag, sums
        due = tf.equal(step % self._every, 0)
        total = tf.cond(due, lambda: checksum(weights), lambda: tf.zeros([], tf.int64))
        pieces = [tf.cast(piece, flag.dtype) for piece in self._pieces(total)]
        flags = tf.concat([flag, tf.stack([*pieces, *(piece * piece for piece in pieces)])], 0)
        return flags, tf.concat([tf.stack(halves(total)), _double(sums)], 0)

    def row(self, summed: Any | None, own: Any, ranks: Any) -> Any:
        """Return a rank's row of signs.

        Args:
            summed: The sums over all ranks of what they added; ``None`` without an exchange.
            own: The part of the row that concerns this rank alone.
            ranks: How many ranks took the step.
        """
        if summed is None:
            return own
        if not self.compares:
            return tf.concat([summed, own], 0)
        sums, squares = _double(summed[1 : 1 + PIECES]), _double(summed[1 + PIECES :])
        differs = tf.reduce_any(tf.not_equal(_double(ranks) * squares, tf.square(sums)))
        return tf.concat([[_double(summed[0]), _double(differs)], own], 0)

    def _pieces(self, total: Any) -> list[Any]:
        """The top bits of a checksum, which every bit of the weights reaches."""
        bits = max(1, (MANTISSA_BITS - (self._most - 1).bit_length()) // 2)
        mask = tf.constant((1 << bits) - 1, tf.int64)
        shifts = [BITS - bits * (number + 1) for number in range(PIECES)]
        return [tf.bitwise.bitwise_and(tf.bitwise.right_shift(total, tf.constant(by, tf.int64)), mask) for by in shifts]


def sum_each(tensors: Sequence[Any]) -> Any:
    """Return the sum of each tensor, float32[n] or float64[n]: not finite if any of its values is not.

    A sum is finite only if all its terms are, and reads each value once, without memory for an answer per value.
    """
    kind = tf.float64 if any(tensor.dtype == tf.float64 for tensor in tensors) else tf.float32
    return tf.stack([tf.cast(tf.reduce_sum(tensor), kind) for tensor in tensors]) if tensors else tf.zeros([0], kind)


def first_not_finite(tensors: Sequence[Any]) -> Any:
    """Return the number, counted from 1, of the first tensor with a value that is not finite; 0 if there is none."""
    if not tensors:
        return tf.zeros([])
    bad = tf.logical_not(tf.math.is_finite(sum_each(tensors)))
    return tf.where(tf.reduce_any(bad), tf.argmax(tf.cast(bad, tf.int32)) + 1, 0)


def checksum(weights: Sequence[Any]) -> Any:
    """Return a sign of silent divergence: a checksum (int64) of the bits of the weights."""
    total = tf.zeros([], tf.int64)
    for number, weight in enumerate(weights):
        factor = ((2 * number + 1) * _GOLDEN) % 2**BITS
        signed = factor - 2**BITS if factor >= 2 ** (BITS - 1) else factor
        total += tf.constant(signed, tf.int64) * _sum_of_words(weight)
    return total


def halves(total: Any) -> list[Any]:
    """Return both halves of a checksum as float64, which holds 32 bits exactly."""
    low = tf.bitwise.bitwise_and(total, tf.constant(2**32 - 1, tf.int64))
    return [_double(tf.bitwise.right_shift(total, tf.constant(32, tf.int64))), _double(low)]


def _sum_of_words(tensor: Any) -> Any:
    """Return Σ of the tensor's bits, read as words of 64 bits; no copy of the tensor is made."""
    flat = tf.reshape(tensor, [-1])
    each = 8 // flat.dtype.size
    whole = flat.shape[0] // each * each
    words = [flat[:whole]]
    if rest := flat.shape[0] - whole:
        words.append(tf.pad(flat[whole:], [[0, each - rest]]))
    parts = [tf.bitcast(tf.reshape(part, [-1, each]) if each > 1 else part, tf.int64) for part in words]
    return tf.add_n([tf.reduce_sum(part) for part in parts])


def _double(value: Any) -> Any:
    return tf.cast(value, tf.float64)
