"""``saman models``: what the commands print, what they change, and their exit statuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from registry_kit import published


@pytest.fixture
def version(tmp_path: Path) -> Path:
    """The folder of ``digits:1``, published into ``models``."""
    return published(tmp_path).path


def test_an_empty_folder_says_how_the_first_version_comes_to_be(saman: Any) -> None:
    shown = saman("models", "list")
    assert shown.status == 0 and "saman models publish" in shown.out


def test_versions_are_listed_shown_and_described(saman: Any, version: Path, tmp_path: Path) -> None:
    [row] = saman("models", "list", "--json").json
    assert (row["model"], row["version"]) == ("digits", 1)
    assert "float32" in saman("models", "show", "digits:1").out
    assert saman("models", "card", "digits:1", "-o", "card.md").status == 0
    assert (tmp_path / "card.md").read_text().startswith("# digits, version 1")


def test_a_label_moves_once_and_the_log_says_who_moved_it_and_why(saman: Any, version: Path) -> None:
    moved = saman("models", "promote", "digits:1", "--why", "passed the trial", "--json").json
    assert moved["changed"] and moved["labels"]["stable"] == 1
    assert not saman("models", "promote", "digits:1", "--json").json["changed"]
    entry = saman("models", "log", "digits", "--json").json[-1]
    assert (entry["action"], entry["to"], entry["why"]) == ("promote", 1, "passed the trial")
    assert "stable: none → 1" in saman("models", "log", "digits").out


def test_a_changed_file_is_found_with_exit_status_1(saman: Any, version: Path) -> None:
    assert saman("models", "verify").status == 0
    (version / "saved_model.pb").write_bytes(b"changed")
    found = saman("models", "verify", "digits:1")
    assert found.status == 1 and "saved_model.pb" in found.out


def test_an_unknown_version_is_refused_with_those_that_exist(saman: Any, version: Path) -> None:
    refused = saman("models", "show", "digits:7")
    assert refused.status == 2 and "7" in refused.err and "1" in refused.err.split("7", 1)[1]
