"""Appending to the audit log: a number is given once, and an entry is on disk before it gets its number."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from saman.registry.store import audit_log
from saman.registry.store.audit_decisions import RetireDecision
from saman.registry.store.audit_entry import Entry, entry_file
from saman.registry.store.tampering import find_tampering


def test_an_entry_is_never_overwritten_by_who_decided_on_an_older_log(tmp_path: Path) -> None:
    mine: list[Entry] = []
    theirs: list[Entry] = []
    assert audit_log.append(tmp_path, theirs, RetireDecision(1), why="first", who="ada")
    assert not audit_log.append(tmp_path, mine, RetireDecision(2), why="second", who="bob")
    assert json.loads(entry_file(tmp_path, 1).read_text())["why"] == "first"
    assert mine == [] and [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_the_entry_that_was_edited_is_the_one_that_is_named(tmp_path: Path) -> None:
    entries: list[Entry] = []
    log = tmp_path / "log"
    log.mkdir()
    for version in (1, 2, 3):
        assert audit_log.append(log, entries, RetireDecision(version), why="", who="ada")
    file = entry_file(log, 2)
    file.write_text(json.dumps({**json.loads(file.read_text()), "who": "mallory"}))
    assert find_tampering(log)[0].startswith("entry 2 was edited")


def test_an_entry_is_on_disk_before_its_number_and_the_number_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, link = os.fsync, Path.hardlink_to

    def note_fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        calls.append("folder" if path == tmp_path else "entry" if "first" in path.read_text() else "other")
        fsync(descriptor)

    def note_link(self: Path, target: Path) -> None:
        calls.append("link")
        link(self, target)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(Path, "hardlink_to", note_link)
    audit_log.append(tmp_path, [], RetireDecision(1), why="first", who="ada")
    assert calls[:3] == ["entry", "link", "folder"]
