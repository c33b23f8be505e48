"""Checkpoints: one folder per step, independent of the strategy, visible by one rename, checked by SHA-256 when read.

    checkpoints/step-00000123/{checkpoint.json, part-00000.npz, …}

A part holds named arrays; ranks that hold different layers write a part each, and a reader gets their union.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.configs.files import read_json, write_json

SCHEMA = 1
_JSON = "checkpoint.json"


@dataclass(frozen=True)
class TrainingPosition:
    """Where a run stands: ``step`` steps are done, ``batch`` of them in ``epoch``; what the loop carries along."""

    step: int = 0
    epoch: int = 0
    batch: int = 0
    epoch_sums: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    best: float | None = None
    best_step: int | None = None
    without_improvement: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)
    ended: bool = False


class DamagedCheckpoint(Exception):  # noqa: N818  (it says what the checkpoint is)
    """A checkpoint that is not what was written."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint on disk."""

    path: Path

    @property
    def step(self) -> int:
        """Steps done when it was written."""
        return int(self.path.name.removeprefix("step-"))

    def read(self) -> tuple[TrainingPosition, dict[str, np.ndarray], dict[str, Any]]:
        """Position, arrays and the facts it was written with; raises ``DamagedCheckpoint``."""
        header = read_json(self.path / _JSON)
        if not isinstance(header, dict) or header.get("schema") != SCHEMA:
            raise DamagedCheckpoint(f"{_JSON} is missing, torn or of another schema")
        arrays: dict[str, np.ndarray] = {}
        for name, digest in header["files"].items():
            arrays.update(_arrays(self.path / name, digest))
        position = {**header["position"], "epoch_sums": tuple(header["position"]["epoch_sums"])}
        return TrainingPosition(**position), arrays, header["facts"]


def find(folder: Path) -> list[Checkpoint]:
    """Every complete checkpoint, newest first."""
    names = (path for path in folder.glob("step-*") if path.name.removeprefix("step-").isdigit())
    return sorted((Checkpoint(path) for path in names), key=lambda one: -one.step)


def newest_sound(folder: Path) -> Iterator[tuple[Checkpoint, str | None]]:
    """Checkpoints from the newest on, each with what is wrong with it, up to and including the first sound one."""
    for checkpoint in find(folder):
        try:
            checkpoint.read()
        except DamagedCheckpoint as problem:
            yield checkpoint, str(problem)
        else:
            yield checkpoint, None
            return


def draft(folder: Path, step: int) -> Path:
    """Where the parts of a checkpoint are written before it becomes visible."""
    return folder / f".step-{step:08d}.tmp"


def write_part(folder: Path, step: int, part: int, arrays: Mapping[str, np.ndarray]) -> None:
    """Write one part of a checkpoint that is not yet visible, holding one array in memory at a time."""
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


def publish(folder: Path, position: TrainingPosition, parts: int, facts: Mapping[str, Any]) -> Checkpoint:
    """Make the checkpoint of ``position`` visible once all its parts are written; replaces one of the same step."""
    place = draft(folder, position.step)
    names = [f"part-{part:05d}.npz" for part in range(parts)]
    files = {name: _digest(place / name) for name in names}
    header = {"schema": SCHEMA, "position": asdict(position), "facts": dict(facts), "files": files}
    write_json(place / _JSON, header)
    final = folder / f"step-{position.step:08d}"
    if final.exists():
        old = folder / f".old-{final.name}.tmp"
        shutil.rmtree(old, ignore_errors=True)
        final.rename(old)
        place.rename(final)
        shutil.rmtree(old, ignore_errors=True)
    else:
        place.rename(final)
    _sync(folder)
    return Checkpoint(final)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def discard(folder: Path, keep: int, also: int | None) -> None:
    """Remove all but the newest ``keep`` checkpoints and that of step ``also``."""
    for checkpoint in find(folder)[keep:]:
        if checkpoint.step != also:
            hidden = checkpoint.path.with_name(f".old-{checkpoint.path.name}.tmp")
            checkpoint.path.rename(hidden)  # at once out of sight, however long removal takes
            shutil.rmtree(hidden, ignore_errors=True)


def discard_drafts(folder: Path) -> None:
    """Remove what a killed writer left."""
    for left in folder.glob(".*.tmp"):
        shutil.rmtree(left, ignore_errors=True)


def check_same_training(facts: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ``UserError`` where a checkpoint was written by a training whose steps were others than ``now``'s."""
    different = sorted(key for key in {*facts, *now} if facts.get(key) != now.get(key))
    if different:
        was = ", ".join(f"{key}: {json.dumps(facts.get(key))}" for key in different)
        raise UserError(
            f"the checkpoints were written with other values of {', '.join(different)}",
            where="experiment.yaml",
            remedy=f"resume with {was}; or start a new run",
        )


def _arrays(path: Path, digest: str) -> dict[str, np.ndarray]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DamagedCheckpoint(f"{path.name} cannot be read: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise DamagedCheckpoint(f"{path.name} is not the file that was written (SHA-256 differs)")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (ValueError, zipfile.BadZipFile) as error:
        raise DamagedCheckpoint(f"{path.name} is no archive of arrays: {error}") from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
