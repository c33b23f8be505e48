"""Finds entries of an audit log that were edited, removed, exchanged or inserted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from saman.configs.files import read_json
from saman.registry.store.audit_entry import ROOT, entry_file, entry_numbers, parse_entry
from saman.registry.store.audit_log import head_file


def find_tampering(folder: Path) -> list[str]:
    """Describe every break of the hash chain; empty for an intact log."""
    head = read_json(head_file(folder))  # before the entries: other processes may append meanwhile
    numbers = entry_numbers(folder)
    found: list[str] = []
    expected = ROOT
    for number in range(1, (numbers[-1] if numbers else 0) + 1):
        problems, expected = _check_entry(folder, number, expected)
        found += problems
    return found + _check_head(folder, head, numbers)


def _check_entry(folder: Path, number: int, expected: str) -> tuple[list[str], str]:
    """The faults of an entry, and its digest, which the next entry must name (empty where it is unknown)."""
    file = entry_file(folder, number)
    if not file.exists():
        return [f"entry {number} is missing"], ""
    entry, problem = parse_entry(file.read_bytes(), number)
    if entry is None:
        return [f"entry {number}: {problem}"], ""
    found = []
    if json.loads(file.read_bytes()).get("digest") != entry.digest() or entry.number != number:
        found.append(f"entry {number} was edited: its digest does not match")
    if expected and entry.previous != expected:
        found.append(f"entry {number} does not follow entry {number - 1}: one of them was replaced")
    return found, entry.digest()


def _check_head(folder: Path, head: Any, numbers: list[int]) -> list[str]:
    if not isinstance(head, dict):
        return ["head.json is missing: removed final entries cannot be detected"] if numbers else []
    last = int(head.get("number", 0))
    if last not in numbers:
        return [f"the log ends at entry {numbers[-1] if numbers else 0}, but entry {last} was written: removed"]
    entry, _ = parse_entry(entry_file(folder, last).read_bytes(), last)
    if entry is not None and entry.digest() != head.get("digest"):
        return [f"entry {last} differs from the entry that was written"]
    return []
