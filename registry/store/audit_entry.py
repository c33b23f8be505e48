"""An entry of a model's audit log: one change, and the digest that chains it to the entry before."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from saman.configs.names import is_label, is_name
from saman.runs.files.whole import parse_json

SCHEMA = 1
ROOT = "0" * 64  # ``previous`` of the first entry
_MOST_DIGITS = 12  # of an entry's or a version's number
_LATEST_TIME = 253_402_300_800  # the year 10000, in Unix seconds


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
    ROLLOUT = "rollout"


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
        """The version that was published, approved, signed, converted, retired or pruned; 0 for a move of a label."""
        return int(self.facts.get("version") or 0)

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
    return sorted(int(stem) for stem in stems if stem.isascii() and stem.isdigit() and len(stem) <= _MOST_DIGITS)


def parse_entry(text: bytes, number: int) -> tuple[Entry | None, str]:
    """Read an entry without checking its digest (``tampering`` does).

    Returns:
        The entry and an empty text, or ``None`` and what is wrong with the file.
    """
    try:
        line = parse_json(text)
    except ValueError:
        return None, "this entry of the audit log is damaged: not JSON"
    if not isinstance(line, dict) or not isinstance(line.get("schema"), int):
        return None, "this entry of the audit log is damaged: no schema"
    if line["schema"] > SCHEMA:
        return None, f"a newer saman wrote this entry (schema {line['schema']}; supported up to {SCHEMA})"
    if wrong := _wrong_fields(line):
        what = f"{', '.join(wrong)} missing or of the wrong type"
        return None, f"entry {number} of the audit log is damaged: {what}"
    facts = {key: value for key, value in line.items() if key not in _OWN_KEYS}
    return Entry(**{name: line[name] for name in _HEAD} | {"time": float(line["time"])}, facts=facts), ""


# ---- the type of each field -------------------------------------------------------------------------------------
# Names in an entry become parts of paths. Whoever may write the models folder may write an entry, so a name that is not
# plain (``../..``) is damage, before any command acts on it.


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**_MOST_DIGITS


def _is_time(value: Any) -> bool:
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(value) and 0 <= value < _LATEST_TIME


def _is_plain_name(value: Any) -> bool:
    return isinstance(value, str) and is_name(value)


def _is_plain_label(value: Any) -> bool:
    return isinstance(value, str) and is_label(value)


def _is_measure(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    return _is_measure(value) and 0 < value <= 1


def _optional(check: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or check(value)


Checks = Mapping[str, Callable[[Any], bool]]
_HEAD: Checks = {
    "number": _is_number,
    "previous": _is_text,
    "id": _is_text,
    "time": _is_time,
    "who": _is_text,
    "why": _is_text,
    "action": _is_text,
}
_VERSION: Checks = {"version": _is_number}
_FACTS: Mapping[str, Checks] = {
    AuditAction.PUBLISH.value: {
        **_VERSION, "manifest": _is_text, "staging": _is_plain_name, "run": _optional(_is_text)
    },
    AuditAction.LOSE.value: _VERSION,
    AuditAction.PROMOTE.value: {"label": _is_plain_label, "to": _is_number, "from": _optional(_is_number)},
    AuditAction.ROLLBACK.value: {"label": _optional(_is_plain_label), "from": _is_number, "to": _is_number},
    AuditAction.UNLABEL.value: {"label": _is_plain_label, "from": _optional(_is_number)},
    AuditAction.APPROVE.value: {**_VERSION, "by": _is_text},
    AuditAction.SIGN.value: _VERSION,
    AuditAction.RETIRE.value: _VERSION,
    AuditAction.PRUNE.value: _VERSION,
    AuditAction.EXPORT.value: {
        **_VERSION, "format": _is_plain_name, "manifest": _is_text, "staging": _is_plain_name,
        "max_difference": _optional(_is_measure), "accuracy": _optional(_is_measure), "bytes": _optional(_is_measure),
    },
    AuditAction.ROLLOUT.value: {
        **_VERSION, "rollout": _is_plain_name, "event": _is_text, "strategy": _optional(_is_text),
        "stable": _optional(_is_number), "traffic": _optional(_is_share), "key": _optional(_is_text),
        "salt": _optional(_is_text), "outcome": _optional(_is_text),
    },
}  # fmt: skip


def _wrong_fields(line: Mapping[str, Any]) -> list[str]:
    """Names of the fields that are missing or of the wrong type; actions of a newer saman have no known facts."""
    checks = {**_HEAD, **_FACTS.get(str(line.get("action")), {})}
    wrong = [name for name, is_right in checks.items() if not is_right(line.get(name))]
    try:
        _canonical(line)
    except ValueError:  # NaN or an infinity, which JSON does not have
        wrong.append("a number")
    return wrong
