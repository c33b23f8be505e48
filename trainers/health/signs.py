"""Signs of failure that every step carries through the exchange of its gradients.

Each rank adds a few numbers to the tensors that it exchanges anyway: whether a gradient of its own is not finite, and,
in the steps that compare ranks, a checksum of its weights. From their sums every rank draws the same conclusion.

    own gradients ─► first not finite ─┐                        ┌─► ranks with a gradient that is not finite
                                       ├─ summed over all ranks ┤
    own weights ─► checksum ─► pieces ─┘                        └─► whether all checksums are equal

Checksums are equal exactly if size · Σ p² = (Σ p)² for each of their pieces p (Cauchy and Schwarz); pieces are short
enough for float32 to hold these sums exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from saman.trainers.keras_compat import tf
from saman.trainers.strategies.base import Strategy

PIECES = 4
BITS = 64  # of a checksum
MANTISSA_BITS = 24  # of float32
_GOLDEN = 0x9E3779B97F4A7C15  # odd part of 2⁶⁴ ÷ φ: spreads every bit over the bits above it

RANKS, DIFFERS, FIRST, HIGH, LOW = range(5)  # indices into a rank's row of signs
WIDTH = 5


class Signs:
    """Adds the signs of a rank to its exchange, and reads those of all ranks from the sums.

    A row of signs is float64[5]: the number of ranks with a gradient that is not finite, and whether the weights of
    ranks differ (both equal on all ranks); of this rank alone the number of its first variable with such a gradient,
    counted from 1 (0 for none), and both halves of its checksum (0 if the step does not compare).
    """

    def __init__(self, strategy: Strategy, compare_every: int | None) -> None:
        """Prepare the signs.

        Args:
            strategy: Says how many ranks there are when a graph is traced; their number may change later.
            compare_every: Steps between two comparisons of the ranks' weights; ``None`` for no comparison.
        """
        self._strategy, self._every = strategy, compare_every

    @property
    def compares(self) -> bool:
        """Whether the ranks' weights are compared."""
        return self._every is not None and self._strategy.size > 1

    def own(self, gradients: Sequence[Any], masked: Any | None, step: Any, weights: Sequence[Any]) -> tuple[Any, Any]:
        """Return what this rank adds to its exchange, and float64[3]: the part of its row that concerns it alone.

        Args:
            gradients: This rank's sums of gradients.
            masked: Whether a gradient that is not finite is expected, as with a loss scale that is too large;
                ``None`` for never.
            step: The number of the step, counted from 0.
            weights: The local values of the weights to compare.
        """
        bad, first = find_not_finite(gradients)
        if masked is not None:
            bad, first = (tf.where(masked, tf.zeros_like(value), value) for value in (bad, first))
        kind = gradients[0].dtype if gradients and gradients[0].dtype == tf.float64 else tf.float32
        flags, parts = [tf.cast(bad, kind)], [_double(first)]
        if self.compares:
            due = tf.equal(step % self._every, 0)
            total = tf.cond(due, lambda: checksum(weights), lambda: tf.zeros([], tf.int64))
            pieces = [tf.cast(piece, kind) for piece in self._pieces(total)]
            flags += [*pieces, *(piece * piece for piece in pieces)]
            parts += halves(total)
        return tf.stack(flags), tf.stack([*parts, *[_double(0.0)] * (WIDTH - FIRST - len(parts))])

    def row(self, summed: Any, own: Any) -> Any:
        """Return the row of signs from the sums over all ranks and the part of this rank alone."""
        differs = tf.constant(False)
        if self.compares:
            sums, squares = _double(summed[1 : 1 + PIECES]), _double(summed[1 + PIECES :])
            differs = tf.reduce_any(tf.not_equal(_double(self._strategy.size) * squares, tf.square(sums)))
        return tf.concat([[_double(summed[0]), _double(differs)], own], 0)

    def _pieces(self, total: Any) -> list[Any]:
        """The top bits of a checksum, which every bit of the weights reaches."""
        bits = max(1, (MANTISSA_BITS - (self._strategy.size - 1).bit_length()) // 2)
        mask = tf.constant((1 << bits) - 1, tf.int64)
        shifts = [BITS - bits * (number + 1) for number in range(PIECES)]
        return [tf.bitwise.bitwise_and(tf.bitwise.right_shift(total, tf.constant(by, tf.int64)), mask) for by in shifts]


def find_not_finite(tensors: Sequence[Any]) -> tuple[Any, Any]:
    """Find the first tensor with a value that is not finite.

    A sum is finite only if all its terms are, and reads each value once, without memory for an answer per value.

    Returns:
        1.0 if there is such a tensor, else 0.0; and its number, counted from 1, else 0.0.
    """
    if not tensors:
        return tf.zeros([]), tf.zeros([])
    kinds = {tensor.dtype for tensor in tensors}
    kind = kinds.pop() if len(kinds) == 1 else tf.float64
    sums = tf.stack([tf.cast(tf.reduce_sum(tensor), kind) for tensor in tensors])
    count = len(tensors)
    place = tf.reduce_max(tf.where(tf.math.is_finite(sums), tf.zeros([]), tf.range(float(count), 0.0, -1.0)))
    bad = tf.minimum(place, 1.0)
    return bad, bad * (count + 1.0 - place)


def first_not_finite(tensors: Sequence[Any]) -> Any:
    """Return the number, counted from 1, of the first tensor with a value that is not finite; 0 if there is none."""
    return find_not_finite(tensors)[1]


def checksum(weights: Sequence[Any]) -> Any:
    """Return a checksum (int64) of the bits of the weights; a change of any single value changes it."""
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
