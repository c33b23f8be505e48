"""Carries out what the audit log says and a killed process left undone: versions that arrive, versions that leave.

Every step may be done by any process, by several at once, and again: what is already done is found done.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.registry.lifecycle import serving_config
from saman.registry.store import audit_log, disk
from saman.registry.store.audit_log import Entry
from saman.registry.store.layout import ModelFolder, models
from saman.registry.store.model_state import PRUNED, PUBLISHED, ModelState, VersionState, fold


def settle(folder: ModelFolder, entries: list[Entry]) -> ModelState:
    """Make the folders of a model follow its log; returns the state. Raises ``OSError`` where it may not write.

    A version whose files are lost is left for ``verify`` to report: it must not keep the others from changing.
    """
    state = fold(folder.name, entries)
    if entries:
        audit_log.advance_head(folder.log, entries[-1])
    for one in state.versions.values():
        path = folder.version(one.number)
        if one.status == PUBLISHED and not path.exists():
            bring_in(folder, one)
        elif one.status == PRUNED and path.exists():
            send_out(folder, path, str(one.number))
        for name, facts in one.formats.items() if one.status != PRUNED else ():
            bring_in_format(folder, one.number, name, facts)
        if one.status == PRUNED and (converted := folder.path / "formats" / str(one.number)).exists():
            send_out(folder, converted, f"formats-{one.number}")
    if folder.trash.is_dir():
        for left in folder.trash.iterdir():
            disk.remove_tree(left)
    return state


def bring_in(folder: ModelFolder, one: VersionState) -> None:
    """Make a version visible under its number: the one rename."""
    source, target = folder.staging / one.staging, folder.version(one.number)
    try:
        source.rename(target)
    except FileNotFoundError:
        return  # another process was first, and a third may have pruned it since
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            problem = "something else lies where this version belongs"
            raise UserError(problem, where=str(target), remedy="move it away") from error
        raise
    disk.sync(folder.path)


def bring_in_format(folder: ModelFolder, number: int, name: str, facts: Mapping[str, Any]) -> None:
    """Make a converted version visible, in the place of what an earlier conversion left."""
    source, target = folder.staging / str(facts.get("staging")), folder.format(number, name)
    if not source.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        send_out(folder, target, f"{number}-{name}")
    with contextlib.suppress(FileNotFoundError):  # another process was first
        source.rename(target)
    disk.sync(target.parent)


def awaited(state: ModelState) -> set[str]:
    """Staged folders that the log knows: never removed, for they may still have to be made visible."""
    formats = {str(facts.get("staging")) for one in state.versions.values() for facts in one.formats.values()}
    return formats | {one.staging for one in state.versions.values()}


def send_out(folder: ModelFolder, path: Path, name: str) -> None:
    """Take a folder out of sight by one rename, then remove it."""
    folder.trash.mkdir(parents=True, exist_ok=True)
    away = folder.trash / f"{name}-{disk.token()}"
    with contextlib.suppress(FileNotFoundError):  # another process was first
        path.rename(away)
    disk.remove_tree(away)


def look(folder: ModelFolder) -> ModelState:
    """The state of a model, for reading; finishes what was left undone where this process may and can."""
    entries = audit_log.read(folder.log)
    try:
        return settle(folder, entries)
    except (OSError, UserError):
        return fold(folder.name, entries)


def look_all(models_dir: Path) -> list[tuple[ModelFolder, ModelState]]:
    """Every model and its state, for reading."""
    found = [(folder, look(folder)) for folder in models(models_dir)]
    with contextlib.suppress(OSError):
        if found:
            serving_config.refresh(models_dir)
    return found
