"""The audit log of a model: one file per change, hash-chained, appended without a lock.

Every change is one entry, and the state of a model (versions, labels, approvals) is nothing but what its entries add
up to (registry/state.py), so that the log can never say anything else than the state. An entry becomes visible by one
``link(2)`` to its number, which fails where the number is taken: of any number of processes on any number of nodes one
wins, and the others read what it did and decide again. ``link`` is atomic on local file systems, NFS, Lustre and GPFS,
and needs no lock daemon; its one trap, a reply lost on NFS and the call repeated, is met by looking whose entry it is.
A process killed before the link has changed nothing, after it everything.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import json
import os
import random
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.files import read_json, write_json
from saman.registry.store import disk

SCHEMA = 1
ROOT = "0" * 64  # what the first entry follows
_PATIENCE_SECONDS = 5.0  # how long an NFS client may go on denying a file that another node has made


@dataclass(frozen=True)
class Entry:
    """One change: what was done, by whom, when (Unix seconds) and why, and the facts that depend on the action."""

    number: int
    previous: str
    id: str
    time: float
    who: str
    why: str
    action: str
    facts: Mapping[str, Any]

    def body(self) -> dict[str, Any]:
        """Everything that the digest covers."""
        head = {"schema": SCHEMA, "number": self.number, "previous": self.previous, "id": self.id}
        return {**head, "time": self.time, "who": self.who, "why": self.why, "action": self.action, **self.facts}

    def digest(self) -> str:
        """SHA-256 (hex) of the entry; the next entry holds it as ``previous``."""
        return hashlib.sha256(_canonical(self.body())).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The file of the entry."""
        return {**self.body(), "digest": self.digest()}


_OWN = ("schema", "number", "previous", "id", "time", "who", "why", "action", "digest")


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:08d}.json"


def me() -> str:
    """``user@host`` of this process."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def read(folder: Path, known: list[Entry] | None = None) -> list[Entry]:
    """All entries in order; ``known`` ones are not read again, for entries never change.

    Raises ``UserError`` for an entry that cannot be read, that is missing, or of a newer schema.
    """
    entries = list(known or [])
    while (entry := _read_one(folder, len(entries) + 1)) is not None:
        entries.append(entry)
    if later := [number for number in _numbers(folder) if number > len(entries)]:
        # Another node's entry may be listed before it can be opened.
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not _file(folder, len(entries) + 1).exists():
            if time.monotonic() > deadline:
                raise UserError(
                    f"entry {len(entries) + 1} of the audit log is missing, but entry {later[-1]} is there",
                    where=str(folder),
                    remedy="restore it from a backup; saman models verify names all damage",
                )
            time.sleep(0.05)
        return read(folder, entries)
    return entries


def _numbers(folder: Path) -> list[int]:
    if not folder.is_dir():
        return []
    stems = (path.stem for path in folder.iterdir() if path.suffix == ".json")
    return sorted(int(stem) for stem in stems if stem.isdigit())


def _read_one(folder: Path, number: int) -> Entry | None:
    file = _file(folder, number)
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    entry, problem = parse(text, number)
    if entry is None:
        raise UserError(problem, where=str(file), remedy="saman models verify names all damage")
    return entry


def parse(text: bytes, number: int) -> tuple[Entry | None, str]:
    """The entry in a file, or why there is none. The digest is not looked at: see ``damage``."""
    try:
        line = json.loads(text)
    except ValueError:
        return None, "this entry of the audit log is damaged: it is not JSON"
    if not isinstance(line, dict) or not isinstance(line.get("schema"), int):
        return None, "this entry of the audit log is damaged: it is not an entry"
    if line["schema"] > SCHEMA:
        newer = f"this entry was written by a newer saman (schema {line['schema']}, known here up to {SCHEMA})"
        return None, newer
    facts = {key: value for key, value in line.items() if key not in _OWN}
    try:
        return Entry(
            number=int(line["number"]),
            previous=str(line["previous"]),
            id=str(line["id"]),
            time=float(line["time"]),
            who=str(line["who"]),
            why=str(line["why"]),
            action=str(line["action"]),
            facts=facts,
        ), ""
    except (KeyError, TypeError, ValueError):
        return None, f"entry {number} of the audit log is damaged: a field is missing or of another kind"


def append(folder: Path, entries: list[Entry], action: str, facts: Mapping[str, Any], *, why: str, who: str) -> bool:
    """Try to make the entry that follows ``entries``, and add it to them; ``False`` where somebody else was first."""
    entry = Entry(
        number=len(entries) + 1,
        previous=entries[-1].digest() if entries else ROOT,
        id=disk.token(),
        time=round(time.time(), 3),
        who=who,
        why=why,
        action=action,
        facts=facts,
    )
    temporary = folder / f".{entry.id}.tmp"
    target = _file(folder, entry.number)
    temporary.write_bytes(json.dumps(entry.to_json(), indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")
    try:
        disk.sync(temporary)
        target.hardlink_to(temporary)
    except FileExistsError:
        if not _is_mine(target, entry):
            return False
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    disk.sync(folder)
    entries.append(entry)
    advance_head(folder, entry)
    return True


def _is_mine(target: Path, entry: Entry) -> bool:
    """Whether a repeated call, after a lost reply, met this very entry."""
    found = read_json(target)
    return isinstance(found, dict) and found.get("id") == entry.id


def change(
    folder: Path, decide: Callable[[list[Entry]], tuple[str, Mapping[str, Any]] | None], *, why: str, who: str
) -> list[Entry]:
    """Append what ``decide`` makes of the entries so far, as often as it takes to be first.

    ``decide`` returns action and facts, or ``None`` where nothing is to be done, or raises; it may be called several
    times. Returns all entries, the new one last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    entries = _whole(folder)
    while (decided := decide(entries)) is not None:
        action, facts = decided
        if append(folder, entries, action, facts, why=why, who=who):
            break
        time.sleep(random.uniform(0, 0.01))
        entries = read(folder, entries)
    return entries


def _whole(folder: Path) -> list[Entry]:
    """All entries; raises ``UserError`` where the newest ones were removed, for their numbers would be used again."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        head = read_json(head_file(folder))
        entries = read(folder)
        last = head.get("number", 0) if isinstance(head, dict) else 0
        if last <= len(entries):
            return entries
        if time.monotonic() > deadline:
            problem = f"the audit log ends at entry {len(entries)}, but entry {last} was written"
            raise UserError(problem, where=str(folder), remedy="restore the log from a backup before changing anything")
        time.sleep(0.1)


# ---- what shows that a log was edited ------------------------------------------------------------------------


def head_file(folder: Path) -> Path:
    """Number and digest of the newest entry, beside the log, so that a shortened log is noticed."""
    return folder.parent / "head.json"


def advance_head(folder: Path, entry: Entry) -> None:
    """Have the head name ``entry`` where it names an earlier one."""
    # The change has been made: a full disk may not turn it into a failure. The next change writes the head again.
    with contextlib.suppress(OSError):
        known = read_json(head_file(folder))
        if not isinstance(known, dict) or known.get("number", 0) < entry.number:
            write_json(head_file(folder), {"number": entry.number, "digest": entry.digest()})


def damage(folder: Path) -> list[str]:
    """Everything that shows that entries were edited, removed or put in; empty for a sound log."""
    found: list[str] = []
    head = read_json(head_file(folder))  # before the entries, to which others may be adding
    numbers = _numbers(folder)
    expected = ROOT
    for number in range(1, (numbers[-1] if numbers else 0) + 1):
        file = _file(folder, number)
        if number not in numbers:
            found.append(f"entry {number} is missing")
            expected = ""
            continue
        entry, problem = parse(file.read_bytes(), number)
        if entry is None:
            found.append(f"entry {number}: {problem}")
            expected = ""
            continue
        recorded = json.loads(file.read_bytes()).get("digest")
        if recorded != entry.digest() or entry.number != number:
            found.append(f"entry {number} was edited: its digest does not fit")
        if expected and entry.previous != expected:
            found.append(f"entry {number} does not follow entry {number - 1}: one of them was replaced")
        expected = entry.digest()
    return found + _head_damage(folder, head, numbers)


def _head_damage(folder: Path, head: Any, numbers: list[int]) -> list[str]:
    if not isinstance(head, dict):
        return ["head.json is missing: whether the last entries were removed cannot be told"] if numbers else []
    last = int(head.get("number", 0))
    if last not in numbers:
        return [f"the log ends at entry {numbers[-1] if numbers else 0}, but entry {last} was written: removed"]
    entry, _ = parse(_file(folder, last).read_bytes(), last)
    if entry is not None and entry.digest() != head.get("digest"):
        return [f"entry {last} is not the one that was written"]
    return []
