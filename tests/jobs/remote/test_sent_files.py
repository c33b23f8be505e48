"""The code on a cluster: what is gone here goes there, and what the user's programs wrote there stays."""

from __future__ import annotations

from pathlib import Path

from saman.jobs.remote.sent_files import list_file, read_sent, receive_list
from saman.slurm.code.files import SentCode


def sent(*names: str) -> dict[str, object]:
    return SentCode(Path(), names, "laptop:/x").to_json()


def make(project: Path, *names: str) -> None:
    for name in names:
        (project / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / "code" / name).write_text(name)


def test_files_that_were_sent_and_are_gone_are_removed_and_no_others(tmp_path: Path) -> None:
    receive_list(tmp_path, sent("a.py", "old/b.py"), complete=True)
    make(tmp_path, "a.py", "old/b.py", "checkpoints/1.h5", "old/notes.txt")
    receive_list(tmp_path, sent("a.py"), complete=True)
    assert sorted(path.name for path in (tmp_path / "code").rglob("*.*")) == ["1.h5", "a.py", "notes.txt"]


def test_a_part_of_the_code_removes_nothing_now_and_the_rest_later(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "b.py")
    receive_list(tmp_path, sent("a.py", "b.py"), complete=True)
    receive_list(tmp_path, sent("my.yaml"), complete=False)
    assert (tmp_path / "code" / "b.py").exists()
    assert read_sent(list_file(tmp_path)).names == ("my.yaml",)
    receive_list(tmp_path, sent("a.py"), complete=True)
    assert not (tmp_path / "code" / "b.py").exists()


def test_nothing_outside_the_code_is_removed(tmp_path: Path) -> None:
    make(tmp_path, "a.py")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept.py").write_text("")
    receive_list(tmp_path, sent("a.py", "../outside/kept.py", "link/kept.py"), complete=True)
    (tmp_path / "code" / "link").symlink_to(outside)
    receive_list(tmp_path, sent("a.py"), complete=True)
    assert (outside / "kept.py").exists()
