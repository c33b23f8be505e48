"""The interface of a user's data function; imports no TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RandomAccess:
    """Examples that are read by position: each rank reads its own and touches no others.

    Attributes:
        examples: The number of examples.
        read: Maps positions (int64[n], each in 0…examples-1, in any order) to a batch of n examples. It runs in a
            ``tf.data`` graph; ``tf.numpy_function`` reads what TensorFlow cannot.
        files: The files that hold the examples, for the identity of the data.
        skipped: Damaged places that are left out, the first of them; as text each names the file and the place.
        lost: The number of examples left out, as far as it is known.
    """

    examples: int
    read: Callable[[Any], Any]
    files: tuple[Path, ...] = ()
    skipped: tuple[Any, ...] = ()
    lost: int = 0

    def __len__(self) -> int:
        return self.examples


@dataclass(frozen=True)
class Splits:
    """Training, validation and test data: ``RandomAccess``, or *unbatched*, finite, deterministic ``tf.data`` datasets.

    With ``RandomAccess`` the cost of a step does not depend on the number of ranks or examples. Every rank reads a
    ``tf.data`` dataset whole and keeps its slice.

    Attributes:
        train: The training examples: (input, label) pairs, or whatever ``map`` turns into pairs. A third part is
            the weight of the example.
        validation: The validation examples; ``None`` for none.
        test: The test examples, which only the final evaluation sees; ``None`` for none.
        map: Applied to the training examples of a rank's own slice. A map with a parameter ``seed`` gets two int32
            numbers made of (seed, epoch, position), which do not depend on the rank.
        validation_map: Applied to the validation and test examples.
        normalize: Turns a batch of raw inputs into the model's inputs. It is part of the training graph and of the
            exported signature, so that clients send raw inputs.
        maps_batches: Whether the maps take whole batches; ``seed`` then has a row for each example.
        identity: Describes the data in the export.
    """

    train: Any
    validation: Any = None
    map: Callable[..., Any] | None = None
    validation_map: Callable[..., Any] | None = None
    normalize: Callable[[Any], Any] | None = None
    maps_batches: bool = False
    identity: Mapping[str, Any] | None = None
    test: Any = None
