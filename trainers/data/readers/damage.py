"""Damaged data: its place, the remedy, and the way of an error out of a ``tf.data`` graph."""

from __future__ import annotations

import logging
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from saman.configs.errors import UserError
from saman.trainers.keras_compat import tf

OnCorrupt = Literal["stop", "skip"]
MOST_LISTED = 100  # damaged places in an index and in a message; all are counted
# What parsers raise at bytes that no sound file has.
PARSER_FAILURES = (
    OSError, ValueError, TypeError, EOFError, ArithmeticError, LookupError, MemoryError, RuntimeError, SyntaxError,
    tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_REMEDY = "restore the file, or leave such examples out with data.on_corrupt: skip"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataDamage:
    """A part of the data that cannot be read.

    Attributes:
        file: The file.
        problem: What is wrong with it.
        place: Where in the file, such as ``byte 4096``; empty for the whole file.
        examples: The number of examples lost, as far as it is known.
    """

    file: str
    problem: str
    place: str = ""
    examples: int = 1

    def __str__(self) -> str:
        return f"{self.file}{f', {self.place}' if self.place else ''}: {self.problem}"

    def error(self) -> UserError:
        """Return the damage as an error that ends the run."""
        return UserError(self.problem, where=f"{self.file}{f', {self.place}' if self.place else ''}", remedy=_REMEDY)


class DamageList:
    """Collects damage while an index is built: stops at the first, or counts all and lists some."""

    def __init__(self, on_corrupt: OnCorrupt, quiet: bool = False) -> None:
        self.stop, self._quiet = on_corrupt == "stop", quiet
        self.listed: list[DataDamage] = []
        self.examples = 0

    def add(self, damage: DataDamage) -> None:
        """Note damage; raises ``UserError`` if the run has to stop at it."""
        if self.stop:
            raise damage.error()
        self.examples += damage.examples
        if len(self.listed) < MOST_LISTED:
            self.listed.append(damage)
            if not self._quiet:
                _log.warning("skipped: %s", damage)


class _Reported:
    """The first error of a reader inside a graph, which turns every exception into text."""

    error: UserError | None = None
    causes: list[Callable[[], UserError | None]] = []


def from_numpy(function: Callable[[Any], Sequence[Any]], positions: Any, specs: Sequence[Any]) -> list[Any]:
    """Call a reader of arrays in a graph, which names damaged data.

    Args:
        function: Maps int64[n] positions to one array of n rows per spec.
        positions: int64[n].
        specs: The spec of an example of each result, without the batch axis.
    """

    def guarded(chosen: Any) -> Sequence[Any]:
        try:
            return function(chosen)
        except UserError as error:
            _Reported.error = _Reported.error or error
            raise

    found = tf.numpy_function(guarded, [positions], [spec.dtype for spec in specs], stateful=False)
    found = found if isinstance(found, list | tuple) else [found]  # eager TensorFlow unpacks a list of one
    return [
        tf.ensure_shape(values, [positions.shape[0], *spec.shape]) for values, spec in zip(found, specs, strict=True)
    ]


def find_cause_with(search: Callable[[], UserError | None]) -> None:
    """Register a search for damaged data, for failures of TensorFlow that name no file; the last one goes first."""
    if search in _Reported.causes:
        _Reported.causes.remove(search)
    _Reported.causes.append(search)


def reported_error(failure: BaseException) -> UserError | None:
    """Return and forget the damaged data behind an exception of TensorFlow; ``None`` if no data are damaged."""
    error, _Reported.error = _Reported.error, None
    if error is None and isinstance(failure, tf.errors.InvalidArgumentError | tf.errors.NotFoundError):
        found = (search() for search in reversed(_Reported.causes))  # of the data opened last, first
        return next((cause for cause in found if cause is not None), None)
    return error


def reason_of(error: BaseException) -> str:
    """Return the first line of a reader's exception; of one without a message, its kind."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def require_files(files: Sequence[Path], damages: DamageList) -> list[Path]:
    """Return the files that can be read; a missing or empty file is damage."""
    sound = []
    for path in files:
        try:
            empty = path.stat().st_size == 0
        except OSError as error:
            damages.add(DataDamage(str(path), f"this file cannot be read: {error.strerror}"))
            continue
        if empty:
            damages.add(DataDamage(str(path), "this file is empty"))
        else:
            sound.append(path)
    return sound
