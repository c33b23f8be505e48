"""The folder of checkpoints: find, read, publish and discard them."""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.runs.checkpoints import parts as part_files
from saman.runs.checkpoints.parts import DamagedCheckpoint, PartFile, find_parts, parts_of, read_arrays
from saman.runs.checkpoints.shares import check_pieces, join
from saman.runs.files.whole import read_json, write_json
from saman.runs.records.training_facts import TrainingFacts

_log = logging.getLogger(__name__)

SCHEMA = 2  # schema 1 holds no sizes and no divided arrays
_READABLE = (1, 2)
_JSON = "checkpoint.json"


@dataclass(frozen=True)
class TrainingPosition:
    """Position of a training: ``step`` steps are done, ``batch`` of them in ``epoch``; and the state of the loop.

    ``skipped`` are the steps, counted from 1, that count as done and leave the weights as they are. ``callbacks`` is
    the state of the user's callbacks at the end of the last epoch, by name. ``rate_scale`` is the product of the
    factors by which plateaus of a metric have reduced the learning rate; ``plateau_…`` is the state of its judgement.
    """

    step: int = 0
    epoch: int = 0
    batch: int = 0
    epoch_sums: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    best: float | None = None
    best_step: int | None = None
    without_improvement: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    ended: bool = False
    skipped: tuple[int, ...] = ()
    callbacks: Mapping[str, Any] = field(default_factory=dict)
    rate_scale: float = 1.0
    plateau_best: float | None = None
    plateau_wait: int = 0
    plateau_cooldown: int = 0


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """The content of ``checkpoint.json``; ``divided`` holds the shapes of the arrays that were written in pieces."""

    position: TrainingPosition
    facts: TrainingFacts
    parts: tuple[PartFile, ...]
    divided: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path

    @property
    def step(self) -> int:
        """Steps done when it was written."""
        return int(self.path.name.removeprefix("step-"))

    def read(self) -> tuple[TrainingPosition, dict[str, np.ndarray], TrainingFacts]:
        """Read position, arrays and facts. Raises ``DamagedCheckpoint`` if a file is missing or was changed."""
        manifest = self._manifest()
        arrays = {name: array for part in manifest.parts for name, array in read_arrays(self.path, part)}
        try:
            return manifest.position, join(arrays, manifest.divided), manifest.facts
        except ValueError as error:
            raise DamagedCheckpoint(str(error)) from error

    def verify(self) -> None:
        """Read everything, an array at a time. Raises as ``read``."""
        manifest = self._manifest()
        items = {name: array.size for part in manifest.parts for name, array in read_arrays(self.path, part)}
        try:
            check_pieces(items, manifest.divided)
        except ValueError as error:
            raise DamagedCheckpoint(str(error)) from error

    def _manifest(self) -> _Manifest:
        header = read_json(self.path / _JSON)
        if not isinstance(header, dict) or header.get("schema") not in _READABLE:
            raise DamagedCheckpoint(f"{_JSON} is missing, torn or of another schema")
        try:
            position = _position_from_json(header["position"])
            return _Manifest(
                position=position,
                facts=TrainingFacts.from_json(header["facts"]),
                parts=tuple(parts_of(header["files"])),
                divided={name: tuple(map(int, shape)) for name, shape in header.get("divided", {}).items()},
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise DamagedCheckpoint(f"{_JSON} is not a manifest: {error!r}") from error


def find(folder: Path) -> list[Checkpoint]:
    """List every complete checkpoint, newest first."""
    names = (path for path in folder.glob("step-*") if path.name.isascii() and path.name[len("step-") :].isdigit())
    return sorted((Checkpoint(path) for path in names), key=lambda checkpoint: -checkpoint.step)


def checkpoint_of(folder: Path, step: int) -> Checkpoint:
    """Return the checkpoint of ``step``, which may not exist.

    >>> checkpoint_of(Path("checkpoints"), 123).path.name
    'step-00000123'
    """
    return Checkpoint(folder / f"step-{step:08d}")


def newest_sound(folder: Path) -> Iterator[tuple[Checkpoint, str | None]]:
    """Yield checkpoints, newest first, each with its damage or ``None``; the first sound checkpoint ends the list."""
    for checkpoint in find(folder):
        try:
            checkpoint.verify()
        except DamagedCheckpoint as problem:
            _log.warning("%s is skipped: %s", checkpoint.path, problem)
            yield checkpoint, str(problem)
        else:
            yield checkpoint, None
            return


def draft(folder: Path, step: int) -> Path:
    """Return the hidden folder in which a checkpoint is written."""
    return folder / f".step-{step:08d}.tmp"


def write_part(folder: Path, step: int, part: int, arrays: dict[str, np.ndarray]) -> None:
    """Write a part of a hidden checkpoint.

    Args:
        folder: The folder of checkpoints.
        step: Optimiser steps taken; names the checkpoint.
        part: Number of the part, from 0.
        arrays: The content, by name; empty afterwards: the memory of each array is free once it is written.

    Raises:
        OSError: The part cannot be written; nothing is left of it.
    """
    part_files.write(draft(folder, step), part, arrays)


def has_parts(folder: Path, step: int, parts: int) -> bool:
    """Whether all parts of a hidden checkpoint are written."""
    return part_files.count_parts(draft(folder, step)) >= parts


def publish(
    folder: Path,
    position: TrainingPosition,
    parts: int,
    facts: TrainingFacts,
    divided: Mapping[str, tuple[int, ...]] | None = None,
) -> Checkpoint:
    """Make a checkpoint visible once all its parts are written; it replaces an earlier checkpoint of the same step.

    Args:
        folder: The folder of checkpoints.
        position: The position of the training; names the checkpoint.
        parts: Number of parts.
        facts: What must be equal when training resumes from here (``check_same_training``).
        divided: The shape of each array that was written in pieces.

    Raises:
        FileNotFoundError: A part is missing.
    """
    place = draft(folder, position.step)
    found = find_parts(place)
    if missing := sorted(set(range(parts)) - set(found)):
        raise FileNotFoundError(errno.ENOENT, f"part {missing[0]} of the checkpoint is missing", str(place))
    files = {found[part].name: {"sha256": found[part].sha256, "bytes": found[part].bytes} for part in range(parts)}
    header = {"schema": SCHEMA, "position": _position_to_json(position), "facts": facts.to_json(), "files": files}
    header["divided"] = dict(divided or {})
    write_json(place / _JSON, header)
    _sync(place)  # the names of the files; after a power loss the folder could be there without them
    final = checkpoint_of(folder, position.step).path
    if final.exists():
        old = folder / f".old-{final.name}.tmp"
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
        place.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    else:
        place.rename(final)
    _sync(folder)
    _log.info("%s written, %d parts", final, parts)
    return Checkpoint(final)


def discard(folder: Path, keep: int, also: int | None) -> None:
    """Remove old checkpoints.

    Args:
        folder: The folder of checkpoints.
        keep: Number of newest checkpoints to keep.
        also: A step to keep besides, such as the step of the best model; ``None`` for no such step.
    """
    for checkpoint in find(folder)[keep:]:
        if checkpoint.step != also:
            hidden = checkpoint.path.with_name(f".old-{checkpoint.path.name}.tmp")
            checkpoint.path.rename(hidden)  # hidden at once, because removal may take long
            shutil.rmtree(hidden, ignore_errors=True)
            _log.debug("%s removed, %d are kept", checkpoint.path, keep)


def discard_drafts(folder: Path) -> None:
    """Remove checkpoints that a killed writer left unfinished."""
    for left in folder.glob(".*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def check_same_training(facts: TrainingFacts, now: TrainingFacts) -> None:
    """Raise ``UserError`` if a stored checkpoint is of another training: its ``facts`` differ from those ``now``."""
    if different := facts.differences(now):
        was = ", ".join(f"{key}: {value}" for key, value in different.items())
        raise UserError(
            f"the checkpoints were written with other values of {', '.join(different)}",
            where="experiment.yaml",
            remedy=f"resume with {was}; or start a new run",
        )


def _position_to_json(position: TrainingPosition) -> dict[str, Any]:
    """The position with ``None`` for numbers that are not finite, which JSON lacks."""
    sums = [value if math.isfinite(value) else None for value in position.epoch_sums]
    metrics = {name: value if math.isfinite(value) else None for name, value in position.metrics.items()}
    return {**asdict(position), "epoch_sums": sums, "metrics": metrics}


def _position_from_json(value: Mapping[str, Any]) -> TrainingPosition:
    sums = tuple(math.nan if item is None else item for item in value["epoch_sums"])
    metrics = {name: math.nan if item is None else item for name, item in value.get("metrics", {}).items()}
    skipped = tuple(map(int, value.get("skipped", ())))
    return TrainingPosition(**{**value, "epoch_sums": sums, "metrics": metrics, "skipped": skipped})


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
