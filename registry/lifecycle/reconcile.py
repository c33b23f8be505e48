"""Makes the folders of a model match its audit log, after a process was killed between the entry and its renames.

Any process may carry out any step, several may do so at once, and a step may be repeated: a completed step is found
completed. Commands that change a model reconcile it first; commands that read it only report the pending steps.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.registry.lifecycle import serving_config
from saman.registry.store import audit_log
from saman.registry.store.audit_entry import Entry
from saman.registry.store.layout import ModelFolder, list_models, require_own_place
from saman.registry.store.model_state import ModelState, VersionState, VersionStatus, read_model, replay
from saman.runs.files import disk
from saman.runs.files.write_errors import MODELS_OPTION, explain_write_errors


class StepKind(str, Enum):
    """The kinds of pending steps."""

    VERSION_ARRIVAL = "version arrival"
    VERSION_REMOVAL = "version removal"
    FORMAT_ARRIVAL = "format arrival"
    FORMAT_REMOVAL = "format removal"
    TRASH = "trash"
    SERVING_CONFIG = "serving config"


@dataclass(frozen=True)
class PendingStep:
    """A step that the log demands and that is not done yet. ``version`` is 0 where no version is concerned."""

    kind: StepKind
    model: str
    version: int
    source: Path
    target: Path | None = None

    def to_json(self) -> dict[str, Any]:
        """The step as plain values."""
        target = str(self.target) if self.target else None
        plain = {"kind": self.kind.value, "model": self.model, "version": self.version}
        return {**plain, "source": str(self.source), "target": target}

    def __str__(self) -> str:
        name = f"{self.model} version {self.version}" if self.version else self.model
        to = f" → {self.target}" if self.target else ""
        return f"{name}: {self.kind.value}: {self.source}{to}"


def find_pending(folder: ModelFolder, state: ModelState) -> list[PendingStep]:
    """List the steps that reconciling would carry out. Reads only."""
    steps = [step for version in state.versions.values() for step in _pending_of(folder, version)]
    trash = sorted(folder.trash.iterdir()) if folder.trash.is_dir() else []
    return steps + [PendingStep(StepKind.TRASH, folder.name, 0, path) for path in trash]


def _pending_of(folder: ModelFolder, version: VersionState) -> Iterator[PendingStep]:
    number, path, converted = version.number, folder.version(version.number), folder.formats(version.number)
    if version.status is VersionStatus.PRUNED:
        if path.exists():
            yield PendingStep(StepKind.VERSION_REMOVAL, folder.name, number, path)
        if converted.exists():
            yield PendingStep(StepKind.FORMAT_REMOVAL, folder.name, number, converted)
        return
    if is_in_staging(folder, version):
        yield PendingStep(StepKind.VERSION_ARRIVAL, folder.name, number, folder.staging / version.staging, path)
    for record in version.formats.values():
        staged = folder.staging / record.staging
        if staged.is_dir():
            target = folder.format(number, record.format)
            yield PendingStep(StepKind.FORMAT_ARRIVAL, folder.name, number, staged, target)


def is_in_staging(folder: ModelFolder, version: VersionState) -> bool:
    """Whether a published version is still in staging: its publisher was killed, or is about to rename it."""
    if version.status is not VersionStatus.PUBLISHED or folder.version(version.number).exists():
        return False
    return (folder.staging / version.staging).is_dir()


def reconcile(folder: ModelFolder, entries: list[Entry]) -> ModelState:
    """Carry out every pending step of a model.

    A version with lost files is no step: ``verify`` reports it, and the other versions can still change.

    Returns:
        The state after ``entries``.

    Raises:
        OSError: A step needs write access that this process lacks.
        UserError: Something else occupies the place of a version, or a step leads out of the model's folder.
    """
    state = replay(folder.name, entries)
    if entries:
        audit_log.advance_head(folder.log, entries[-1])
    for step in find_pending(folder, state):
        _carry_out(folder, step)
    if folder.trash.is_dir():
        require_own_place(folder, folder.trash / "any")
        for left in folder.trash.iterdir():
            disk.remove_tree(left)
    return state


def try_reconcile(folder: ModelFolder) -> ModelState:
    """Carry out pending steps as far as this process can, before a change; returns the state."""
    entries = audit_log.read(folder.log)
    try:
        return reconcile(folder, entries)
    except (OSError, UserError):
        return replay(folder.name, entries)


def reconcile_all(models_dir: Path, *, act: bool = True) -> list[PendingStep]:
    """Reconcile every model and ``models.config``; with ``act=False`` only list the steps.

    Raises:
        UserError: A log is damaged, or something else occupies the place of a version.
        EnvironmentLack: The models folder is not writable.
    """
    steps: list[PendingStep] = []
    damaged: list[UserError] = []
    for folder in list_models(models_dir):
        try:
            steps += _reconcile_model(folder, act)
        except UserError as error:
            damaged.append(error)  # the other models do not wait for its repair
    if list_models(models_dir) and not serving_config.is_current(models_dir):
        file = models_dir / serving_config.FILE
        steps.append(PendingStep(StepKind.SERVING_CONFIG, serving_config.FILE, 0, file))
        if act:
            with explain_write_errors(models_dir, "the models folder", MODELS_OPTION):
                serving_config.refresh(models_dir)
    if damaged:
        raise type(damaged[0])(damaged[0].problem, where=damaged[0].where, remedy=damaged[0].remedy, others=damaged[1:])
    return steps


def _reconcile_model(folder: ModelFolder, act: bool) -> list[PendingStep]:
    steps = find_pending(folder, read_model(folder))
    if act:
        with explain_write_errors(folder.path, "the models folder", MODELS_OPTION):
            reconcile(folder, audit_log.read(folder.log))
    return steps


def _carry_out(folder: ModelFolder, step: PendingStep) -> None:
    for path in (step.source, *([step.target] if step.target else [])):
        require_own_place(folder, path)
    if step.source.is_symlink():
        problem = "this is a symbolic link; versions are real folders"
        raise UserError(problem, where=str(step.source), remedy="remove it; saman models verify lists all damage")
    if step.kind is StepKind.VERSION_ARRIVAL and step.target:
        make_visible(folder, step.source, step.target)
    elif step.kind is StepKind.FORMAT_ARRIVAL and step.target:
        _make_format_visible(folder, step.source, step.target)
    elif step.kind is StepKind.VERSION_REMOVAL:
        _remove(folder, step.source, str(step.version))
    elif step.kind is StepKind.FORMAT_REMOVAL:
        _remove(folder, step.source, f"formats-{step.version}")


def make_visible(folder: ModelFolder, source: Path, target: Path) -> None:
    """Rename a staged version to its number; a version that is no longer staged is left alone.

    Args:
        folder: The model.
        source: The staged version.
        target: The version's folder, named by its number.

    Raises:
        UserError: Something else occupies the place of the version.
    """
    try:
        source.rename(target)
    except FileNotFoundError:
        return  # another process was first, and a third may have pruned the version since
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            problem = "something else occupies the place of this version"
            raise UserError(problem, where=str(target), remedy="move it away") from error
        raise
    disk.sync_path(folder.path)


def _make_format_visible(folder: ModelFolder, source: Path, target: Path) -> None:
    """Rename a staged conversion to its place; an earlier conversion leaves."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        _remove(folder, target, f"{target.parent.name}-{target.name}")
    with contextlib.suppress(FileNotFoundError):  # another process was first
        source.rename(target)
    disk.sync_names(target.parent, top=folder.path)


def _remove(folder: ModelFolder, path: Path, name: str) -> None:
    """Rename a folder into the trash, then delete it."""
    folder.trash.mkdir(parents=True, exist_ok=True)
    away = folder.trash / f"{name}-{disk.unique_name()}"
    with contextlib.suppress(FileNotFoundError):  # another process was first
        path.rename(away)
    disk.remove_tree(away)


def awaited(state: ModelState) -> set[str]:
    """Staged folders that the log names. They must not be swept: they may still have to become visible."""
    formats = {record.staging for version in state.versions.values() for record in version.formats.values()}
    return formats | {version.staging for version in state.versions.values()}
