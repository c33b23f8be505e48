"""An entry of a model's audit log: one change, and the digest that chains it to the entry before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

SCHEMA = 1
ROOT = "0" * 64  # ``previous`` of the first entry


class AuditAction(str, Enum):
    """The kinds of change that a log records."""

    PUBLISH = "publish"
    LOSE = "lose"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    UNLABEL = "unlabel"
    APPROVE = "approve"
    SIGN = "sign"
    RETIRE = "retire"
    PRUNE = "prune"
    EXPORT = "export"


@dataclass(frozen=True)
class AuditDecision:
    """A change to record: its action and facts, before it has a number and an author."""

    action: AuditAction
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """One recorded change. ``time`` is in Unix seconds; ``facts`` depend on the action.

    ``action`` is a plain string because a newer saman may have written an action that this saman does not know.
    """

    number: int
    previous: str
    id: str
    time: float
    who: str
    why: str
    action: str
    facts: Mapping[str, Any]

    @property
    def version(self) -> int:
        """The version that was published, approved, signed, converted, retired or pruned."""
        return int(self.facts["version"])

    @property
    def label(self) -> str | None:
        """The label that moved; ``None`` for actions without a label."""
        return None if self.facts.get("label") is None else str(self.facts["label"])

    @property
    def moved_from(self) -> int | None:
        """The version that lost the label."""
        return None if self.facts.get("from") is None else int(self.facts["from"])

    @property
    def moved_to(self) -> int | None:
        """The version that received the label."""
        return None if self.facts.get("to") is None else int(self.facts["to"])

    def text(self, name: str) -> str:
        """A fact as text; empty where the entry does not have it."""
        return str(self.facts.get(name) or "")

    def body(self) -> dict[str, Any]:
        """The part of the entry that its digest covers."""
        head = {"schema": SCHEMA, "number": self.number, "previous": self.previous, "id": self.id}
        return {**head, "time": self.time, "who": self.who, "why": self.why, "action": self.action, **self.facts}

    def digest(self) -> str:
        """SHA-256 (hex) of the entry; the next entry holds it as ``previous``."""
        return hashlib.sha256(_canonical(self.body())).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """The content of the entry's file."""
        return {**self.body(), "digest": self.digest()}


_OWN_KEYS = ("schema", "number", "previous", "id", "time", "who", "why", "action", "digest")


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def entry_file(folder: Path, number: int) -> Path:
    """The file of an entry."""
    return folder / f"{number:08d}.json"


def entry_numbers(folder: Path) -> list[int]:
    """Numbers of the entries in a log folder, lowest first; empty where the folder is missing."""
    if not folder.is_dir():
        return []
    stems = (path.stem for path in folder.iterdir() if path.suffix == ".json")
    return sorted(int(stem) for stem in stems if stem.isdigit())


def parse_entry(text: bytes, number: int) -> tuple[Entry | None, str]:
    """Read an entry without checking its digest (``tampering`` does).

    Returns:
        The entry and an empty text, or ``None`` and what is wrong with the file.
    """
    try:
        line = json.loads(text)
    except ValueError:
        return None, "this entry of the audit log is damaged: not JSON"
    if not isinstance(line, dict) or not isinstance(line.get("schema"), int):
        return None, "this entry of the audit log is damaged: no schema"
    if line["schema"] > SCHEMA:
        return None, f"a newer saman wrote this entry (schema {line['schema']}; supported up to {SCHEMA})"
    try:
        return Entry(
            number=int(line["number"]),
            previous=str(line["previous"]),
            id=str(line["id"]),
            time=float(line["time"]),
            who=str(line["who"]),
            why=str(line["why"]),
            action=str(line["action"]),
            facts={key: value for key, value in line.items() if key not in _OWN_KEYS},
        ), ""
    except (KeyError, TypeError, ValueError):
        return None, f"entry {number} of the audit log is damaged: a field is missing or has the wrong type"
