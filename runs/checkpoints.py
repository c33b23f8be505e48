"""Checkpoints: a folder per step, the same for every strategy, visible by a rename, checked by SHA-256 when read.

    checkpoints/step-00000123/{checkpoint.json, part-00000.npz, …}

A part holds named arrays. Ranks that hold different layers write a part each; a reader gets their union.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from saman.configs.errors import UserError
from saman.configs.regular_files import read_regular
from saman.runs.files.whole import read_json, write_json
from saman.runs.records.training_facts import TrainingFacts

_log = logging.getLogger(__name__)

SCHEMA = 1
_JSON = "checkpoint.json"


@dataclass(frozen=True)
class TrainingPosition:
    """Position of a training: ``step`` steps are done, ``batch`` of them in ``epoch``; and the state of the loop."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    epoch_sums: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    best: float | None = None
    best_step: int | None = None
    without_improvement: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    ended: bool = False


class DamagedCheckpoint(Exception):  # noqa: N818  (the name of the state, not of the error)
    """The content of a checkpoint differs from what was written."""


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
        header = read_json(self.path / _JSON)
        if not isinstance(header, dict) or header.get("schema") != SCHEMA:
            raise DamagedCheckpoint(f"{_JSON} is missing, torn or of another schema")
        arrays: dict[str, np.ndarray] = {}
        for name, digest in header["files"].items():
            arrays.update(_arrays(self.path / name, digest))
        position = {**header["position"], "epoch_sums": tuple(header["position"]["epoch_sums"])}
        return TrainingPosition(**position), arrays, TrainingFacts.from_json(header["facts"])


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
            checkpoint.read()
        except DamagedCheckpoint as problem:
            _log.warning("%s is skipped: %s", checkpoint.path, problem)
            yield checkpoint, str(problem)
        else:
            yield checkpoint, None
            return


def draft(folder: Path, step: int) -> Path:
    """Return the hidden folder in which a checkpoint is written."""
    return folder / f".step-{step:08d}.tmp"


def write_part(folder: Path, step: int, part: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a part of a hidden checkpoint; at most a single array is in memory besides ``arrays``.

    Args:
        folder: The folder of checkpoints.
        step: Optimiser steps taken; names the checkpoint.
        part: Number of the part, from 0.
        arrays: The content, by name.
    """
    place = draft(folder, step)
    place.mkdir(parents=True, exist_ok=True)
    temporary = place / f".part-{part:05d}.tmp"
    with temporary.open("wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name in arrays:
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(arrays[name]), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(place / f"part-{part:05d}.npz")


def publish(folder: Path, position: TrainingPosition, parts: int, facts: TrainingFacts) -> Checkpoint:
    """Make a checkpoint visible once all its parts are written; it replaces an earlier checkpoint of the same step.

    Args:
        folder: The folder of checkpoints.
        position: The position of the training; names the checkpoint.
        parts: Number of parts.
        facts: What must be equal when training resumes from here (``check_same_training``).
    """
    place = draft(folder, position.step)
    names = [f"part-{part:05d}.npz" for part in range(parts)]
    files = {name: _digest(place / name) for name in names}
    header = {"schema": SCHEMA, "position": asdict(position), "facts": facts.to_json(), "files": files}
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


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
    """Raise ``UserError`` if a checkpoint belongs to another training: its ``facts`` differ from those ``now``."""
    if different := facts.differences(now):
        was = ", ".join(f"{key}: {value}" for key, value in different.items())
        raise UserError(
            f"the checkpoints were written with other values of {', '.join(different)}",
            where="experiment.yaml",
            remedy=f"resume with {was}; or start a new run",
        )


def _arrays(path: Path, digest: str) -> dict[str, np.ndarray]:
    try:
        data = read_regular(path)
    except OSError as error:
        raise DamagedCheckpoint(f"{path.name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedCheckpoint(f"{path.name} is not the file that was written (SHA-256 differs)")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise DamagedCheckpoint(f"{path.name} is not an archive of arrays: {error}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
