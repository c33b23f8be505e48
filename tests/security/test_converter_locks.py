"""Packages of converters: each has a digest in a lock file; an archive with another digest is not installed."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack
from saman.registry.evaluation import converter_packages
from saman.registry.evaluation.converter_packages import LITERT, ONNX, TFJS, ConverterPackages, install_packages


@pytest.mark.parametrize("wanted", [LITERT, ONNX, TFJS], ids=lambda wanted: wanted.name)
def test_every_package_is_pinned_and_has_a_digest(wanted: ConverterPackages) -> None:
    blocks = re.split(r"\n(?=\S)", wanted.lock.read_text().strip())
    assert blocks and all(re.match(r"[\w.-]+==\S+", block) and "--hash=sha256:" in block for block in blocks)
    for file in wanted.node_files[1:]:
        packages = {name: about for name, about in json.loads(file.read_text())["packages"].items() if name}
        assert len(packages) > 10 and all(about["integrity"].startswith("sha512-") for about in packages.values())


def _wheel(folder: Path, content: str) -> Path:
    folder.mkdir()
    wheel = folder / "harmless-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("harmless.py", content)
        archive.writestr("harmless-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: harmless\nVersion: 1.0\n")
        archive.writestr(
            "harmless-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("harmless-1.0.dist-info/RECORD", "")
    return folder


def test_an_archive_with_another_digest_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "overlay.lock").write_text(f"harmless==1.0 --hash=sha256:{'0' * 64}\n")
    monkeypatch.setattr(converter_packages, "_LOCKS", tmp_path)
    for name, value in {
        "SAMAN_CACHE_DIR": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null",
        "PIP_FIND_LINKS": str(_wheel(tmp_path / "index", "evil = True")),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(EnvironmentLack, match="cannot be installed"):
        install_packages(ConverterPackages("overlay"))
    assert not list((tmp_path / "cache" / "converters").glob("overlay*"))
    assert "harmless" not in sys.modules


def test_an_archive_of_the_locked_digest_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    index = _wheel(tmp_path / "index", "answer = 42")
    digest = hashlib.sha256(next(index.iterdir()).read_bytes()).hexdigest()
    (tmp_path / "overlay.lock").write_text(f"harmless==1.0 --hash=sha256:{digest}\n")
    monkeypatch.setattr(converter_packages, "_LOCKS", tmp_path)
    for name, value in {
        "SAMAN_CACHE_DIR": str(tmp_path / "cache"), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null",
        "PIP_FIND_LINKS": str(index),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert (install_packages(ConverterPackages("overlay")) / "python" / "harmless.py").is_file()
