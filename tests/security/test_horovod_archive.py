"""An index that serves another archive under Horovod's name: none of its code runs, not even for its metadata."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack
from saman.launcher.setup import horovod_source
from saman.launcher.setup.carry_out import ProgressLine

SILENT = ProgressLine(say=lambda line: None, terminal=False)
EVIL = """
import pathlib
pathlib.Path({marker!r}).write_text("the archive's code has run")
from setuptools import setup
setup(name="horovod", version="0.28.1")
"""


def hostile_index(folder: Path, marker: Path) -> Path:
    """A folder of archives (as PIP_FIND_LINKS takes it) with a source distribution that leaves a marker when run."""
    folder.mkdir()
    files = {"setup.py": EVIL.format(marker=str(marker)), "PKG-INFO": "Metadata-Version: 2.1\nName: horovod\n"}
    with tarfile.open(folder / horovod_source.SDIST, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"horovod-0.28.1/{name}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    return folder


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="needs an environment of its own, with pip")
def test_the_archive_of_another_digest_is_refused_before_any_of_its_code_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "marker"
    monkeypatch.setenv("PIP_FIND_LINKS", str(hostile_index(tmp_path / "index", marker)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    with pytest.raises(EnvironmentLack):
        horovod_source._download(Path(sys.prefix), tmp_path / "cache", tmp_path / "log", SILENT)
    assert not marker.exists(), "the archive's code ran before its digest was compared"
    assert "hash" in (tmp_path / "log").read_text().lower(), "pip refused it for another reason"
    assert not (tmp_path / "cache" / "sources" / horovod_source.SDIST).exists()
