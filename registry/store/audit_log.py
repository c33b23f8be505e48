"""The audit log of a model: one file per change, hash-chained, appended without a lock.

Each change is one entry. Versions, labels and approvals are derived from the entries (store/model_state.py), so log
and state cannot disagree. ``link(2)`` makes an entry visible under its number and fails where the number is taken:
of any number of processes on any number of nodes a single process wins; the others read its entry and decide again.
``link`` is atomic on local file systems, NFS, Lustre and GPFS and needs no lock daemon. NFS may lose the reply and
repeat the call, so a failed link checks whether the entry is its own. A process killed before the link has changed
nothing.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import logging
import os
import random
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.regular_files import read_regular
from saman.registry.store.audit_decisions import AuditDecision
from saman.registry.store.audit_entry import ROOT, Entry, entry_file, entry_numbers, parse_entry
from saman.runs.files import disk
from saman.runs.files.whole import read_json, write_json

_log = logging.getLogger(__name__)
_PATIENCE_SECONDS = 5.0  # how long an NFS client may deny a file that another node has made


def current_user() -> str:
    """The author of an audit entry: ``user@host`` of this process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def read(folder: Path, known: list[Entry] | None = None) -> list[Entry]:
    """Read all entries in order.

    Args:
        folder: The log.
        known: Entries read before; they are not read again, because entries never change.

    Raises:
        UserError: An entry is missing, unreadable or of a newer schema.
    """
    entries = list(known or [])
    while (entry := _read_entry(folder, len(entries) + 1)) is not None:
        entries.append(entry)
    if later := [number for number in entry_numbers(folder) if number > len(entries)]:
        _wait_for_entry(folder, len(entries) + 1, later[-1])
        return read(folder, entries)
    return entries


def _wait_for_entry(folder: Path, number: int, later: int) -> None:
    """Wait for an entry of another node, which may be listed before it can be opened."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not entry_file(folder, number).exists():
        if time.monotonic() > deadline:
            raise UserError(
                f"entry {number} of the audit log is missing, but entry {later} exists",
                where=str(folder),
                remedy="restore it from a backup; saman models verify lists all damage",
            )
        time.sleep(0.05)


def _read_entry(folder: Path, number: int) -> Entry | None:
    file = entry_file(folder, number)
    try:
        text = read_regular(file)
    except FileNotFoundError:
        return None
    entry, problem = parse_entry(text, number)
    if entry is None:
        raise UserError(problem, where=str(file), remedy="saman models verify lists all damage")
    return entry


def append(folder: Path, entries: list[Entry], decision: AuditDecision, *, why: str, who: str) -> bool:
    """Try to write the entry that follows ``entries``, and add it to them.

    Args:
        folder: The folder of the log.
        entries: All entries so far.
        decision: The change.
        why: The reason.
        who: The author.

    Returns:
        ``False`` where another process wrote that entry first.
    """
    entry = Entry(
        number=len(entries) + 1,
        previous=entries[-1].digest() if entries else ROOT,
        id=disk.unique_name(),
        time=round(time.time(), 3),
        who=who,
        why=why,
        action=decision.action.value,
        facts=decision.facts(),
    )
    if not _link_entry(folder, entry):
        return False
    disk.sync_path(folder)
    _log.info("%s: entry %d, %s by %s", folder, entry.number, entry.action, who)
    entries.append(entry)
    advance_head(folder, entry)
    return True


def _link_entry(folder: Path, entry: Entry) -> bool:
    temporary = folder / f".{entry.id}.tmp"
    target = entry_file(folder, entry.number)
    temporary.write_bytes(json.dumps(entry.to_json(), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    try:
        disk.sync_path(temporary)
        target.hardlink_to(temporary)
    except FileExistsError:
        found = read_json(target)  # our own entry, where NFS lost the reply and repeated the call
        return isinstance(found, dict) and found.get("id") == entry.id
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    return True


def append_change(
    folder: Path, decide: Callable[[list[Entry]], AuditDecision | None], *, why: str, who: str
) -> list[Entry]:
    """Append an entry to the audit log: what ``decide`` returns, again after each lost race.

    Args:
        folder: The log; it is made where it is missing.
        decide: Returns the change for the entries so far, or ``None`` for no change; may raise, may run several times.
        why: The reason, for the log.
        who: The author, for the log.

    Returns:
        All entries; the new entry is the last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = _read_whole(folder)
    while (decision := decide(entries)) is not None:
        if append(folder, entries, decision, why=why, who=who):
            break
        time.sleep(random.uniform(0, 0.01))
        entries = read(folder, entries)
    return entries


def _read_whole(folder: Path) -> list[Entry]:
    """All entries; raises ``UserError`` where the newest were removed: their numbers would be used again."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        head = read_json(head_file(folder))
        entries = read(folder)
        last = _number(head)
        if last <= len(entries):
            return entries
        if time.monotonic() > deadline:
            problem = f"the audit log ends at entry {len(entries)}, but entry {last} was written"
            raise UserError(problem, where=str(folder), remedy="restore the log from a backup before any change")
        time.sleep(0.1)


def head_file(folder: Path) -> Path:
    """Number and digest of the newest entry, kept beside the log so that a shortened log is noticed."""
    return folder.parent / "head.json"


def _number(head: Any) -> int:
    """The entry that a head names; 0 where it is missing or damaged."""
    number = head.get("number") if isinstance(head, dict) else None
    return number if isinstance(number, int) else 0


def advance_head(folder: Path, entry: Entry) -> None:
    """Make the head name ``entry``, unless it names a later entry."""
    # The change is already made: a full disk must not report it as a failure. The next change writes the head again.
    with contextlib.suppress(OSError):
        known = read_json(head_file(folder))
        if _number(known) < entry.number:
            write_json(head_file(folder), {"number": entry.number, "digest": entry.digest()})
