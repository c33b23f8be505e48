"""What saman and a user's data function say to each other; imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Context:
    """For whom the data are: ``fn(ctx, **args) -> Splits`` is called once for each epoch.

    ``rank`` and ``size`` are there for messages and caches; the data must not depend on them, because saman itself
    gives each rank its slice.
    """

    seed: int
    epoch: int
    rank: int
    size: int


@dataclass(frozen=True)
class RandomAccess:
    """Examples that are read by position: each rank reads its own and touches no others.

    Attributes:
        examples: The number of examples.
        read: Maps positions (int64[n], each in 0…examples-1, in any order) to a batch of n examples. It runs in a
            ``tf.data`` graph; ``tf.numpy_function`` reads what TensorFlow cannot.
    """

    examples: int
    read: Callable[[Any], Any]

    def __len__(self) -> int:
        return self.examples


@dataclass(frozen=True)
class Splits:
    """Training and validation data: ``RandomAccess``, or *unbatched*, finite, deterministic ``tf.data`` datasets.

    With ``RandomAccess`` the cost of a step does not depend on the number of ranks or examples. Every rank reads a
    ``tf.data`` dataset whole and keeps its slice.

    ``train`` and ``validation`` hold pairs (input, label), or whatever ``map`` and ``validation_map`` make pairs of.
    Each rank applies the maps to its own slice only; a map that has a parameter ``seed`` gets two int32 numbers made
    of (seed, epoch, position), the same for an example on whatever rank it lands. With ``maps_batches`` a map takes
    a whole batch (and its ``seed`` has one row per example).

    ``normalize`` turns a batch of raw inputs into what the model takes. It becomes part of the training graph and of
    the exported signature, so that a client sends raw inputs. ``identity`` describes the data in the export.
    """

    train: Any
    validation: Any = None
    map: Callable[..., Any] | None = None
    validation_map: Callable[..., Any] | None = None
    normalize: Callable[[Any], Any] | None = None
    maps_batches: bool = False
    identity: Mapping[str, Any] | None = None
