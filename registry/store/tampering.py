"""Finds entries of an audit log that were edited, removed, exchanged or inserted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saman.configs.regular_files import read_regular
from saman.registry.store.audit_entry import ROOT, entry_file, entry_numbers, parse_entry
from saman.registry.store.audit_log import head_file
from saman.runs.files.whole import parse_json, read_json


def find_tampering(folder: Path) -> list[str]:
    """Describe every break of the hash chain; empty for an intact log."""
    head = read_json(head_file(folder))  # before the entries: other processes may append meanwhile
    numbers = entry_numbers(folder)
    found: list[str] = []
    expected, before = ROOT, 0
    for number in numbers:
        if number > before + 1:
            found.append(_missing(before + 1, number - 1))
            expected = ""
        problems, expected = _check_entry(folder, number, expected)
        found += problems
        before = number
    return found + _check_head(folder, head, numbers)


def _missing(first: int, last: int) -> str:
    return f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"


def _check_entry(folder: Path, number: int, expected: str) -> tuple[list[str], str]:
    """The faults of an entry, and its digest, which the next entry must name (empty where it is unknown)."""
    file = entry_file(folder, number)
    try:
        text = read_regular(file)
    except OSError as error:
        return [f"entry {number} cannot be read: {error.strerror}"], ""
    entry, problem = parse_entry(text, number)
    if entry is None:
        return [f"entry {number}: {problem}"], ""
    found = []
    if parse_json(text).get("digest") != entry.digest() or entry.number != number:
        found.append(f"entry {number} was edited: its digest does not match")
    if expected and entry.previous != expected:
        found.append(f"entry {number} does not follow entry {number - 1}: one of them was replaced")
    return found, entry.digest()


def _check_head(folder: Path, head: Any, numbers: list[int]) -> list[str]:
    if not isinstance(head, dict):
        return ["head.json is missing: removed final entries cannot be detected"] if numbers else []
    last = head.get("number")
    if not isinstance(last, int) or not isinstance(head.get("digest"), str):
        return ["head.json is damaged: removed final entries cannot be detected"]
    if last not in numbers:
        return [f"the log ends at entry {numbers[-1] if numbers else 0}, but entry {last} was written: removed"]
    try:
        entry, _ = parse_entry(read_regular(entry_file(folder, last)), last)
    except OSError:
        return []  # reported as an entry
    if entry is not None and entry.digest() != head.get("digest"):
        return [f"entry {last} differs from the entry that was written"]
    return []
