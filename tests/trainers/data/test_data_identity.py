"""The identity of data files changes with their contents, and costs hashing only where a file has changed."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from saman.runs.records.provenance import DataIdentity
from saman.trainers import RandomAccess, Splits
from saman.trainers.data import identity


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were hashed, in order."""
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    for name in ("a", "b"):
        (tmp_path / "data" / name).write_text(name * 10)
    names: list[str] = []
    original = identity._sha256
    monkeypatch.setattr(identity, "_sha256", lambda path: (names.append(path.name), original(path))[1])
    return names


def found(folder: Path, hashing: Any = "auto") -> DataIdentity:
    files = tuple(sorted((folder / "data").glob("[ab]")))
    one = identity.identity_of(Splits(RandomAccess(1, lambda positions: positions, files=files)), hashing)
    assert one is not None
    return one


def test_only_a_file_that_changed_is_hashed_again(tmp_path: Path, hashed: list[str]) -> None:
    before = found(tmp_path)
    assert (before.files, before.bytes, before.hashed) == (2, 20, True)
    assert before.listed[0].sha256 == hashlib.sha256(b"a" * 10).hexdigest()
    assert found(tmp_path) == before and hashed == ["a", "b"]
    (tmp_path / "data" / "b").write_text("c" * 10)
    os.utime(tmp_path / "data" / "b", (1, 1))
    assert found(tmp_path).digest != before.digest and hashed == ["a", "b", "b"]


def test_large_data_are_hashed_on_request_only(
    tmp_path: Path, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "MOST_BYTES", 19)
    assert not found(tmp_path).hashed and not hashed
    assert found(tmp_path, "always").hashed and hashed == ["a", "b"]
    assert not found(tmp_path, "never").hashed
    assert identity.identity_of(Splits(RandomAccess(1, lambda positions: positions))) is None


def test_croissant_metadata_are_read_and_their_hashes_compared(tmp_path: Path, hashed: list[str]) -> None:
    right, outside = hashlib.sha256(b"a" * 10).hexdigest(), "0" * 64
    distribution = [
        {"@type": "cr:FileObject", "contentUrl": "https://example.org/a", "sha256": right},
        {"@type": "cr:FileObject", "contentUrl": "../../etc/b", "sha256": outside},
    ]
    croissant = {"conformsTo": "http://mlcommons.org/croissant/1.0", "name": "birds", "license": "MIT", "version": 2}
    (tmp_path / "data" / "croissant.json").write_text(json.dumps({**croissant, "distribution": distribution}))
    one = found(tmp_path)
    assert one.croissant == {"name": "birds", "license": "MIT", "version": "2"}
    assert one.differing == ("b",)
    del croissant["conformsTo"]  # as before version 1.0
    for kind, facts in (("sc:Dataset", one.croissant), ("sc:Person", {})):
        (tmp_path / "data" / "croissant.json").write_text(json.dumps({**croissant, "@type": kind}))
        assert found(tmp_path).croissant == facts
    (tmp_path / "data" / "croissant.json").write_text("{broken")
    assert found(tmp_path).croissant == {}
