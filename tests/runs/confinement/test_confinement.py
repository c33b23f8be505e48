"""A confined command gets its limits, and what the machine cannot enforce is reported, not passed over."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path

import pytest

from saman.runs.confinement import kernel
from saman.runs.confinement.confined import Confinement, Means, read_lacking, without_secrets, write_lacking


def test_the_command_keeps_its_arguments_exit_status_and_environment(tmp_path: Path) -> None:
    program = "import os, sys; print(sys.argv[1:], os.environ['KEPT']); sys.exit(7)"
    command = [sys.executable, "-c", program, "--memory=1", "--", "two words"]
    done = subprocess.run(
        Confinement(1 << 31, 60).command(command, tmp_path / "report.json"),
        capture_output=True, text=True, env={"KEPT": "x", "PATH": ""},
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert done.stdout == "['--memory=1', '--', 'two words'] x\n"


def test_what_cannot_be_enforced_is_returned_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def impossible(*_: object) -> None:
        raise OSError("not on this machine")

    for name in ("write_only_to", "refuse_system_calls", "leave_network", "die_with_parent"):
        monkeypatch.setattr(kernel, name, impossible)
    monkeypatch.setattr("saman.runs.confinement.confined._limit", impossible)
    assert Confinement(1, 1).apply() == dict.fromkeys(Means, "not on this machine")


def test_a_report_is_read_back_and_a_missing_report_means_no_confinement(tmp_path: Path) -> None:
    lacking = {Means.FILES: "no Landlock"}
    write_lacking(tmp_path / "report.json", lacking)
    assert read_lacking(tmp_path / "report.json") == lacking
    assert set(read_lacking(tmp_path / "missing.json")) == set(Means)


def test_an_unknown_processor_is_an_error_and_not_an_open_door(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.platform, "machine", lambda: "pdp11")
    with pytest.raises(OSError, match="pdp11"):
        kernel.refuse_system_calls()


def _answer(program: bytes, architecture: int, number: int) -> int:
    """Run a BPF program on a system call, as linux/filter.h describes it; returns its answer."""
    lines = [struct.unpack_from("HBBI", program, at) for at in range(0, len(program), 8)]
    data, at, value = {0: number, 4: architecture}, 0, 0
    while True:
        code, yes, no, constant = lines[at]
        at += 1
        if code == 0x06:  # return
            return constant
        if code == 0x20:  # load
            value = data[constant]
        elif code in (0x15, 0x35):  # jump if equal, if at least
            at += yes if (value == constant if code == 0x15 else value >= constant) else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_refuses_every_named_call_and_allows_the_others(machine: str) -> None:
    architecture, calls = kernel._REFUSED[machine]
    program = kernel._filter(architecture, calls)
    refused = {number for number in range(600) if _answer(program, architecture, number) == 0x00050001}
    assert refused == set(calls.values())
    assert all(_answer(program, architecture, number) == 0x7FFF0000 for number in set(range(600)) - refused)
    assert _answer(program, architecture, 0x40000000 | 41) == 0x00050001, "x32 is a second way to socket"
    assert _answer(program, 0x40000003, 102) == 0x00050001, "i386's socketcall is another way to socket"


def test_variables_with_secret_names_are_left_out() -> None:
    assert without_secrets({"API_KEY": "x", "PATH": "/bin"}) == {"PATH": "/bin"}
