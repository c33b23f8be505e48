"""The patches to Horovod's Keras interface: they fit exactly, are explained, and are part of the wheel's key."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import tarfile
import zipfile
from pathlib import Path

import pytest

from saman.configs.errors import EnvironmentLack
from saman.launcher.setup import horovod_source, wheel_cache
from saman.launcher.setup.carry_out import ProgressLine
from saman.launcher.setup.horovod_keras import patched_wheel
from saman.launcher.setup.horovod_keras.unified_diff import DiffMismatchError, apply_diff, read_diff
from saman.launcher.setup.pythons import Python
from saman.launcher.setup.stacks import COMPAT, CURRENT, SetupRequest
from saman.runs import caches

ROOT = Path(__file__).resolve().parents[4]
DIFF = "--- a/x.py\n+++ b/x.py\n@@ -1,3 +1,4 @@\n a\n-b\n+B\n+C\n c\n@@ -6,2 +7,1 @@\n f\n-g\n"
OLD, NEW = "a\nb\nc\nd\ne\nf\ng\n", "a\nB\nC\nc\nd\ne\nf\n"
PATCH = "A reason.\n---\ndiff --git a/horovod/k.py b/horovod/k.py\n" + DIFF.replace("x.py", "horovod/k.py")
PYTHON = Python("/usr/bin/python3.11", (3, 11, 2), 64, True, "cpython")
WHEEL = "horovod-0.28.1-cp311-cp311-linux_x86_64.whl"


def test_a_diff_changes_the_lines_that_it_names() -> None:
    assert apply_diff({"x.py": OLD, "y.py": "y\n"}, DIFF) == {"x.py": NEW}


@pytest.mark.parametrize("text", [OLD.replace("b", "bb"), "z\n" + OLD, OLD.replace("f\ng\n", "f\n"), ""])
def test_a_diff_never_changes_another_text(text: str) -> None:
    with pytest.raises(DiffMismatchError, match=r"x\.py"):
        apply_diff({"x.py": text}, DIFF)
    with pytest.raises(DiffMismatchError, match="no such file"):
        apply_diff({}, DIFF)


def make_wheel(folder: Path) -> Path:
    """A wheel with a changed file, another file, a library and their record."""
    files = {"horovod/k.py": OLD.encode(), "horovod/other.py": b"1\n", "horovod/mpi_lib.so": bytes(range(256))}
    rows = [(name, "sha256=" + digest(data), str(len(data))) for name, data in files.items()]
    wheel = folder / WHEEL
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        lines = [",".join(row) for row in rows] + ["horovod-0.28.1.dist-info/RECORD,,"]
        archive.writestr("horovod-0.28.1.dist-info/RECORD", "\n".join(lines) + "\n")
    return wheel


def digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


@pytest.fixture
def one_patch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "patches"
    folder.mkdir()
    (folder / "0001-x.patch").write_text(PATCH)
    monkeypatch.setattr(patched_wheel, "PATCHES", folder)
    return folder


def test_a_patched_wheel_differs_in_the_patched_files_and_its_record_is_right(tmp_path: Path, one_patch: Path) -> None:
    (tmp_path / "new").mkdir()
    patched = patched_wheel.patch_wheel(make_wheel(tmp_path), tmp_path / "new")
    with zipfile.ZipFile(patched) as archive:
        read = {name: archive.read(name) for name in archive.namelist()}
    assert read["horovod/k.py"].decode() == NEW
    assert read["horovod/mpi_lib.so"] == bytes(range(256))
    record = read.pop("horovod-0.28.1.dist-info/RECORD").decode()
    rows = {name: (said, size) for name, said, size in csv.reader(io.StringIO(record))}
    for name, data in read.items():
        assert rows[name] == (f"sha256={digest(data)}", str(len(data)))


def test_a_wheel_that_a_patch_does_not_fit_is_refused(tmp_path: Path, one_patch: Path) -> None:
    (one_patch / "0002-again.patch").write_text(PATCH)
    with pytest.raises(EnvironmentLack, match=r"0002-again\.patch does not fit"):
        patched_wheel.patch_wheel(make_wheel(tmp_path), one_patch)


def test_the_patch_set_is_part_of_the_key_on_keras_3_only(one_patch: Path) -> None:
    def key(request: SetupRequest) -> dict[str, str]:
        return horovod_source.inputs(request, PYTHON)

    current, compat = SetupRequest(Path("/v")), SetupRequest(Path("/v"), stack=COMPAT)
    before = key(current)
    (one_patch / "0001-x.patch").write_text(PATCH + "\n")
    assert key(current) != before
    assert key(compat) == horovod_source.build_inputs(compat, PYTHON)


def test_a_wheel_that_was_built_before_is_patched_and_not_built_again(
    tmp_path: Path, one_patch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(horovod_source, "_build", lambda *_: pytest.fail("compiles"))
    request = SetupRequest(tmp_path / "v")
    assert not horovod_source.is_built(request, PYTHON)
    built = horovod_source.build_inputs(request, PYTHON)
    wheel_cache.keep(wheel_cache.place(caches.cache_folder(), built), make_wheel(tmp_path), built)
    assert horovod_source.is_built(request, PYTHON)
    silent = ProgressLine(say=lambda line: None, terminal=False)
    first = horovod_source.provide(request, PYTHON, tmp_path / "log", silent)
    with zipfile.ZipFile(first) as archive:
        assert archive.read("horovod/k.py").decode() == NEW
    assert horovod_source.provide(request, PYTHON, tmp_path / "log", silent) == first


def test_every_patch_gives_its_reason_the_files_it_changes_and_its_tests() -> None:
    checks = (ROOT / "tests" / "launcher" / "scripts" / "horovod_keras.py").read_text("utf-8")
    files = patched_wheel.patch_files()
    assert [file.name[:4] for file in files] == [f"{number:04}" for number in range(1, len(files) + 1)]
    for file in files:
        header, diff = file.read_text("utf-8").split("\n---\n", 1)
        assert len(header.splitlines()[0]) <= 72, file.name
        tests = re.search(r"^Tests: (.+) in tests/launcher/test_horovod_keras\.py$", header, re.MULTILINE)
        assert tests, file.name
        for name in tests[1].split():
            assert f"def check_{name}(" in checks, (file.name, name)
        for path in read_diff(diff):
            assert Path(path).name in header, (file.name, path)


def test_the_patches_fit_the_release_and_leave_python_that_compiles() -> None:
    source = caches.cache_folder() / "sources" / horovod_source.SDIST
    if not source.exists():
        pytest.skip("Horovod's source is not cached: make setup downloads it where it builds Horovod")
    prefix = horovod_source.SDIST.removesuffix(".tar.gz") + "/"
    with tarfile.open(source) as archive:
        members = [
            entry for entry in archive if entry.name.endswith(".py") and entry.name.startswith(f"{prefix}horovod/")
        ]
        texts = {}
        for entry in members:
            file = archive.extractfile(entry)
            assert file
            texts[entry.name.removeprefix(prefix)] = file.read().decode()
    for path, text in patched_wheel.patched_texts(texts, source.name).items():
        compile(text, path, "exec")


def test_the_stack_with_keras_2_keeps_the_release_as_it_is() -> None:
    assert CURRENT.mend_horovod
    assert not COMPAT.mend_horovod
