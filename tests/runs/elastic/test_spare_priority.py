"""A process that becomes a warm spare leaves the cores to the sessions of the ranks until it gets a place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from saman.configs.schemas.script import Script
from saman.launcher.starters.start import Command, Start
from saman.launcher.supervision.start_processes import StartProcesses
from saman.runs.elastic.spare_priority import PRIORITY, becomes_spare, set_session_priority
from saman.runs.folder import RunFolder

OWN = Path("/proc/self/autogroup")
autogroups = pytest.mark.skipif(not OWN.exists(), reason="this kernel has no autogroups")
SHOW = "print(open('/proc/self/autogroup').read().split()[-1])"


@pytest.mark.parametrize(
    ("largest", "process", "replaces", "expected"),
    [
        ("2", "0", "0", False),
        ("2", "2", "0", True),
        ("2", "0", "1", True),
        ("3", "0", "1", False),
        ("", "2", "1", False),
    ],
)
def test_only_a_process_that_finds_the_world_full_becomes_a_spare(
    largest: str, process: str, replaces: str, expected: bool
) -> None:
    own = {"SAMAN_PROCESS": process, "SAMAN_PROCESSES": "3", "SAMAN_REPLACES": replaces}
    assert becomes_spare({**own, "SAMAN_LARGEST_WORLD": largest}) is expected


@autogroups
def test_a_session_of_low_priority_is_raised_again_and_no_other_is_changed() -> None:
    before = OWN.read_text()
    raise_own = f"from saman.runs.elastic.spare_priority import *; set_session_priority(0); {SHOW}"
    code = f"{SHOW}; input(); {SHOW}; {raise_own}"
    with subprocess.Popen(
        [sys.executable, "-uc", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "0\n"
        set_session_priority(PRIORITY, other.pid)
        assert other.communicate("\n")[0].split() == [str(PRIORITY), "0"]
    assert OWN.read_text() == before


def test_a_kernel_without_autogroups_needs_nothing(tmp_path: Path) -> None:
    set_session_priority(PRIORITY, kernel=tmp_path)
    assert not list(tmp_path.iterdir())


@autogroups
def test_spares_alone_start_at_low_priority(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", Script(name="spares", command=["true"], directory=str(tmp_path)))
    argv = (sys.executable, "-c", f"import time; time.sleep(0.3); {SHOW}")
    commands = tuple(Command(argv, {"SAMAN_PROCESS": str(number)}) for number in range(2))
    shared = {"SAMAN_PROCESSES": "2", "SAMAN_LARGEST_WORLD": "1", "SAMAN_REPLACES": "0"}
    processes = StartProcesses(run, run.new_attempt(), Start("processes", commands), shared)
    processes.launch()
    while processes.running:
        pass
    processes.replace(0, "here")
    while processes.running:
        pass
    processes.stop(lambda: True)
    assert sorted(processes.output) == ["0", str(PRIORITY), str(PRIORITY)]
