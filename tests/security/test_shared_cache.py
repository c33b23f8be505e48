"""A cache that several users share: code that another user put there, or may change, is not run."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack
from saman.launcher.setup import wheel_cache
from saman.registry.evaluation import converter_packages
from saman.registry.evaluation.converter_packages import LITERT, install_packages

OTHER = 64301
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to another user")


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """The folder of a wheel, with the record that belongs to it."""
    folder = tmp_path / "wheels" / "horovod"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    (folder / "horovod.whl").write_bytes(b"code")
    record = {"wheel": "horovod.whl", "sha256": hashlib.sha256(b"code").hexdigest(), "inputs": {}}
    (folder / "built.json").write_text(json.dumps(record))
    for file in folder.iterdir():
        file.chmod(0o644)
    return folder


def test_a_wheel_of_ones_own_is_taken(cached: Path) -> None:
    assert wheel_cache.lookup(cached) == cached / "horovod.whl"


@as_root
@pytest.mark.parametrize("name", ["", "horovod.whl", "built.json"])
def test_a_wheel_of_another_user_is_refused_although_its_digest_is_right(cached: Path, name: str) -> None:
    os.chown(cached / name, OTHER, OTHER)
    with pytest.raises(EnvironmentLack, match="belongs to user 64301"):
        wheel_cache.lookup(cached)


@pytest.mark.parametrize("name", ["", "horovod.whl", "built.json"])
def test_a_wheel_that_everyone_may_write_is_refused(cached: Path, name: str) -> None:
    (cached / name).chmod(0o777 if not name else 0o666)
    with pytest.raises(EnvironmentLack, match="may be written by other users"):
        wheel_cache.lookup(cached)


def test_a_record_cannot_name_a_wheel_elsewhere(cached: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.whl").write_bytes(b"code")
    record = json.loads((cached / "built.json").read_text())
    (cached / "built.json").write_text(json.dumps({**record, "wheel": "../../evil.whl"}))
    assert wheel_cache.lookup(cached) is None


def test_a_kept_wheel_is_writable_by_its_owner_only(tmp_path: Path) -> None:
    before = os.umask(0o002)
    try:
        (tmp_path / "h.whl").write_bytes(b"x")
        kept = wheel_cache.keep(tmp_path / "cache" / "wheels" / "h", tmp_path / "h.whl", {})
    finally:
        os.umask(before)
    assert all(not path.stat().st_mode & 0o022 for path in (kept.parent, *kept.parent.iterdir()))


@as_root
def test_packages_of_a_converter_that_another_user_installed_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path))
    folder = tmp_path / "converters" / converter_packages._folder_name(LITERT)
    (folder / "python").mkdir(parents=True)
    assert install_packages(LITERT) == folder
    os.chown(folder / "python", OTHER, OTHER)
    with pytest.raises(EnvironmentLack, match="belongs to user 64301"):
        install_packages(LITERT)
