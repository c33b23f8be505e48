"""An environment works in another folder when the original is gone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from importlib import resources
from pathlib import Path

import pytest

import saman
from saman.launcher.staging.data import copy_of, data_archive, data_paths
from saman.runs.ranks.staged_data import staged_variable, with_copies

BUILD = """
from saman.launcher.staging.environment import environment_archive, this_environment
found = environment_archive(this_environment(), print)
print(found.path)
"""
ASK = "import sys, tiny, saman; print(sys.prefix, sys.base_prefix, tiny.__file__, saman.__file__, sys.executable)"


def _unpack(archive: str, origin: Path, root: Path) -> Path:
    script = (resources.files("saman.launcher.staging") / "node.sh").read_text()
    stamp = Path(archive).stem
    for action in ("prepare", "unpack"):
        words = ["sh", "-c", script, "node.sh", action, str(root), stamp, "7", archive, str(origin), "", "shared"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 10), done.stderr
    return root / stamp


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """The original environment, renamed; its copy; what two builds said."""
    tmp_path = tmp_path_factory.mktemp("staging")
    original = tmp_path / "original"
    venv.create(original, symlinks=True)
    packages = original / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    (packages / "tiny.py").write_text("def main(): print('tiny', __file__)\n")
    (packages / "outside.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    (packages / "__editable__.saman-0.pth").write_text(str(Path(saman.__file__).parents[1]) + "\n")
    script = original / "bin" / "tiny"
    script.write_text(f"#!{original}/bin/python\nimport tiny\ntiny.main()\n")
    script.chmod(0o755)
    environ = {**os.environ, "SAMAN_CACHE_DIR": str(tmp_path / "cache")}
    command = [str(original / "bin" / "python"), "-c", BUILD]
    said = [subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    copy = _unpack(said[0].splitlines()[-1], original, tmp_path / "node")
    original.rename(tmp_path / "gone")
    return original, copy, said


def test_the_archive_is_built_once_for_its_content(places: tuple[Path, Path, list[str]]) -> None:
    _, _, (first, second) = places
    assert "building" in first
    assert "building" not in second
    assert first.splitlines()[-1] == second.splitlines()[-1]


def test_python_and_its_packages_come_from_the_copy(places: tuple[Path, Path, list[str]]) -> None:
    original, copy, _ = places
    python = copy / "env" / "bin" / "python"
    done = subprocess.run([str(python), "-c", ASK], capture_output=True, text=True, check=False, env={})
    assert done.returncode == 0, done.stderr
    prefix, base, *files = done.stdout.split()
    assert prefix == str(copy / "env")
    if not sys.base_prefix.startswith("/usr"):
        assert base == str(copy / "base")
    assert all(file.startswith(str(copy)) for file in files)
    assert str(original) not in done.stdout


def test_a_console_script_of_the_copy_runs(places: tuple[Path, Path, list[str]]) -> None:
    _, copy, _ = places
    done = subprocess.run([str(copy / "env" / "bin" / "tiny")], capture_output=True, text=True, check=True, env={})
    assert done.stdout.startswith(f"tiny {copy}")


def test_a_folder_of_data_is_read_from_its_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    folder = tmp_path / "images" / "train"
    folder.mkdir(parents=True)
    (folder / "a.png").write_bytes(b"a")
    (tmp_path / "table.csv").write_text("1,2\n")
    args = {"folder": str(folder), "file": str(tmp_path / "table.csv"), "name": "/no/such", "size": 3}
    assert data_paths(args) == [folder, tmp_path / "table.csv"]
    archive = data_archive(folder, print)
    copy = copy_of(_unpack(str(archive.path), folder, tmp_path / "node"), folder)
    assert (copy / "a.png").read_bytes() == b"a"
    variables = staged_variable({folder: copy})
    assert with_copies(args, variables) == {**args, "folder": str(copy)}
    assert with_copies(args, {}) == args
    (folder / "b.png").write_bytes(b"b")
    assert data_archive(folder, print).stamp != archive.stamp
    assert not archive.path.exists()  # only the newest content of a folder is kept
    plain = data_archive(tmp_path / "table.csv", print)
    assert (plain.path, plain.packed) == (tmp_path / "table.csv", False)


def test_a_linked_folder_is_copied_and_links_out_of_it_lead_to_the_originals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    folder, shared = tmp_path / "real", tmp_path / "shared"
    (folder / "deep").mkdir(parents=True)
    shared.mkdir()
    (shared / "labels").write_text("labels")
    (folder / "values").write_text("values")
    (folder / "deep" / "out").symlink_to("../../shared/labels")
    (folder / "deep" / "in").symlink_to("../values")
    os.mkfifo(folder / "pipe")
    link = tmp_path / "data"
    link.symlink_to("real")
    archive = data_archive(link, print)
    copy = copy_of(_unpack(str(archive.path), link, tmp_path / "node"), link)
    assert not copy.is_symlink() and (copy / "deep" / "in").read_text() == "values"
    assert (copy / "deep" / "out").readlink() == shared / "labels" and not (copy / "pipe").exists()


def test_texts_that_cannot_be_paths_are_no_data() -> None:
    texts = ["/" + "x" * 5000, "~no-such-user/x", "/a\0b", "/", "/..", "/proc/1/root/x/y"]
    assert data_paths(dict(enumerate(texts))) == []  # type: ignore[arg-type]
