"""Who owns a file and who may write to it: only the user and root decide what is in a trusted file."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from saman.runs.trust import ownership
from saman.runs.trust.ownership import (
    Doubt,
    DubiousFolderError,
    Fault,
    close_to_others,
    find_doubt,
    own_folder,
    trusted_owners,
)


def fault(path: Path) -> Fault | None:
    doubt = find_doubt(path)
    return None if doubt is None else doubt.fault


def made(path: Path, mode: int) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


def test_own_files_are_trusted_and_missing_ones_doubted_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").touch(0o644)
    assert fault(tmp_path / "file") is fault(tmp_path / "missing") is fault(made(tmp_path / "folder", 0o755)) is None


def test_another_users_file_is_doubted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/etc/passwd")
    monkeypatch.setattr(ownership, "trusted_owners", lambda: frozenset({os.geteuid() + 1}))
    assert fault(tmp_path) is fault(tmp_path / "file") is fault(tmp_path / "link") is Fault.OWNER


@pytest.mark.parametrize(
    ("mode", "found"), [(0o777, Fault.WRITABLE), (0o757, Fault.WRITABLE), (0o1777, None), (0o755, None), (0o700, None)]
)
def test_a_folder_that_others_write_to_is_doubted_unless_it_is_sticky(
    mode: int, found: Fault | None, tmp_path: Path
) -> None:
    assert fault(made(tmp_path / "folder", mode)) is found


def test_a_group_of_only_the_owner_is_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = made(tmp_path / "folder", 0o775)
    monkeypatch.setattr(ownership, "_private_group", lambda user, group: True)
    assert fault(folder) is None
    monkeypatch.setattr(ownership, "_has_list", lambda path: True)
    assert fault(folder) is Fault.WRITABLE
    monkeypatch.undo()
    monkeypatch.setattr(ownership, "_private_group", lambda user, group: False)
    assert fault(folder) is Fault.WRITABLE


def test_the_command_of_a_remedy_can_be_pasted_whatever_the_path_holds() -> None:
    doubt = Doubt(Path("/runs/x; touch y"), Fault.WRITABLE, 0)
    assert shlex.split(doubt.remedy) == ["chmod", "-R", "go-w", "/runs/x; touch y"]


def test_a_folder_is_closed_to_the_last_file_and_links_lead_nowhere(tmp_path: Path) -> None:
    folder, outside = made(tmp_path / "copy", 0o775), tmp_path / "outside"
    (made(folder / "package", 0o777) / "module.py").touch()
    (folder / "package" / "module.py").chmod(0o666)
    outside.touch()
    outside.chmod(0o666)
    (folder / "link").symlink_to(outside)
    close_to_others(folder)
    modes = [path.stat().st_mode & 0o777 for path in (folder, folder / "package", folder / "package" / "module.py")]
    assert modes == [0o755, 0o755, 0o644]
    assert outside.stat().st_mode & 0o777 == 0o666


def test_only_root_trusts_the_caller_of_sudo() -> None:
    environment = {"SUDO_UID": "1001"}
    assert trusted_owners(environment, 0) == {0, 1001}
    assert trusted_owners(environment, 1000) == {0, 1000}
    assert trusted_owners({"SUDO_UID": "x"}, 0) == {0}


def test_a_fifo_is_doubted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo", 0o600)
    assert fault(tmp_path / "fifo") is Fault.KIND


def test_an_own_folder_is_made_once_and_its_permissions_are_mended(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "mine")
    assert folder.stat().st_mode & 0o7777 == 0o700
    folder.chmod(0o777)
    assert own_folder(folder, 0o755).stat().st_mode & 0o7777 == 0o755


def test_a_link_in_the_place_of_an_own_folder_is_refused_and_its_target_untouched(tmp_path: Path) -> None:
    target = made(tmp_path / "target", 0o711)
    (tmp_path / "mine").symlink_to(target)
    with pytest.raises(DubiousFolderError) as refused:
        own_folder(tmp_path / "mine", 0o755)
    assert refused.value.doubt.fault is Fault.KIND
    assert target.stat().st_mode & 0o7777 == 0o711


def test_another_users_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, me = made(tmp_path / "theirs", 0o777), os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(DubiousFolderError) as refused:
        own_folder(folder)
    assert refused.value.doubt.fault is Fault.OWNER and refused.value.doubt.owner == me
