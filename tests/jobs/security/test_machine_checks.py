"""``saman doctor --security`` on the machine: each condition is found where it is, and only there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saman.jobs.security import machine
from saman.jobs.security.finding import Check, CheckResult, Risk, is_safe
from saman.runs.confinement.confined import Means


def test_root_and_an_open_umask_are_named() -> None:
    assert machine.check_user(0).risk is Risk.WARNING
    assert machine.check_user(1000).risk is Risk.NONE
    assert [machine.check_umask(mask).risk for mask in (0o000, 0o020, 0o002, 0o022, 0o077)] == [
        Risk.DANGER, Risk.DANGER, Risk.NOTE, Risk.NONE, Risk.NONE,
    ]  # fmt: skip


def test_reading_the_umask_changes_nothing() -> None:
    before = os.umask(0o027)
    try:
        assert machine.check_umask().found == "umask 027"
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mode", "risk"), [(0o1777, Risk.NONE), (0o777, Risk.DANGER), (0o700, Risk.NONE)])
def test_a_temporary_folder_without_the_sticky_bit_is_dangerous(mode: int, risk: Risk, tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(mode)
    assert machine.check_temporary_folder(tmp_path / "tmp").risk is risk


def test_protections_of_the_kernel_that_are_off_are_named(tmp_path: Path) -> None:
    for name in ("protected_symlinks", "protected_hardlinks", "protected_fifos", "protected_regular"):
        (tmp_path / name).write_text("1\n")
    assert machine.check_kernel(tmp_path).risk is Risk.NONE
    (tmp_path / "protected_fifos").write_text("0\n")
    assert "fs.protected_fifos=1" in machine.check_kernel(tmp_path).remedy


def test_other_people_make_a_node_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.check_others(tmp_path).risk is Risk.NOTE  # hidepid: not even the first process is seen
    (tmp_path / "1").mkdir()
    assert machine.check_others(tmp_path).risk is Risk.NONE
    monkeypatch.setattr(machine, "other_users", lambda processes: ("ada", "bo", "cy", "di"))
    shared = machine.check_others(tmp_path)
    assert shared.risk is Risk.WARNING and "ada, bo, cy and 1 more" in shared.found


def test_what_a_machine_cannot_confine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "read_lacking", lambda report: {Means.FILES: "no Landlock"})
    found = machine.check_confinement()
    assert found.risk is Risk.WARNING and "files (no Landlock)" in found.found
    monkeypatch.undo()
    monkeypatch.setattr(machine, "run_command", refuse)  # nothing is known: nothing is confined
    assert machine.check_confinement().risk is Risk.WARNING


def refuse(command: list[str], **how: object) -> None:
    raise FileNotFoundError("python3")


def test_only_danger_makes_a_machine_unsafe() -> None:
    assert is_safe([CheckResult(Check.USER, risk, "") for risk in Risk if risk is not Risk.DANGER])
    assert not is_safe([CheckResult(Check.USER, risk, "") for risk in Risk])
