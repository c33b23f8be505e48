"""Which files of the user's code go along, and that a list from another machine leads nowhere else."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.launcher.programs import script_from_command
from saman.slurm.code import files as module
from saman.slurm.code.files import GitState, SentCode, code_files, is_inside
from saman.slurm.submission.code_copy import code_copy


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "data").mkdir(parents=True)
    for name in ("train.py", "weights.bin", "data/big.npz"):
        (folder / name).write_text(name)
    (folder / ".gitignore").write_text("data/\n")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def test_git_decides_which_files_are_code(project: Path) -> None:
    found = code_files(project)
    assert sorted(found.names()) == [".gitignore", "train.py", "weights.bin"]
    assert found.left_out == ("data/",)
    assert found.git == GitState(None)  # nothing is committed yet


def test_listed_files_are_taken_whatever_git_says(project: Path) -> None:
    assert code_files(project, [Path("data")]).names() == ["data/big.npz"]
    with pytest.raises(UserError, match="no such file"):
        code_files(project, [Path("missing.py")])


def test_too_much_is_no_code(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FILES", 2)
    with pytest.raises(UserError, match="2 files"):
        code_files(project)


def test_the_copy_of_sent_code_has_the_files_that_were_sent_and_no_others(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    (folder / "sub").mkdir(parents=True)
    for name in ("train.py", "model.npz", "stale.py", "sub/help.py"):
        (folder / name).write_text(name)
    sent = SentCode(folder, ("train.py", "model.npz", "sub/help.py"), "laptop:/home/ada/x", ("data/",), GitState("abc"))
    spec = script_from_command(["python", "help.py"], directory=folder / "sub")
    copy = code_copy(spec, (), tmp_path / "runs", sent=SentCode.from_json(folder, sent.to_json()))
    assert copy is not None
    copied = sorted(path.relative_to(copy.folder).as_posix() for path in copy.folder.rglob("*") if path.is_file())
    assert copied == ["code/model.npz", "code/sub/help.py", "code/train.py"]
    assert copy.of(folder / "sub") == copy.folder / "code" / "sub"
    assert (copy.origin.folders, copy.origin.commit, copy.left_out) == (("laptop:/home/ada/x",), "abc", ("data/",))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "", "a/", "a\0b"])
def test_a_name_that_leads_out_of_the_folder_is_no_name(tmp_path: Path, name: str) -> None:
    assert not is_inside(name)
    assert SentCode.from_json(tmp_path, {"names": [name, "good.py"]}).names == ("good.py",)
