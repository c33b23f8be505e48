"""Two runs at once on one machine: the second takes free cores where there are enough, and says it where not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from saman.launcher.plan import core_claims
from saman.launcher.plan.core_claims import CoreClaim, choose_cores, hold_cores
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.rank.assignment import select_cores, usable_cores
from saman.runs import locks
from saman.runs.trust.ownership import own_folder


def plan(*cores: int) -> Placement:
    """One process with a core each."""
    processes = (Process(at, "here", at, at, 1, (core,)) for at, core in enumerate(cores))
    return Placement(tuple(processes), 1)


@pytest.fixture
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_claims, "allowed_cores", lambda: [0, 4, 1, 5, 2, 6, 3, 7])


@pytest.mark.parametrize(
    ("free", "wanted", "cores", "said"),
    [
        ((0, 1, 2, 3), 2, (), None),  # nobody else is here
        ((2, 3), 2, (2, 3), "hold 2 of the 4 cores here; this run uses free cores"),
        ((1, 2, 3), 2, (1, 2), "hold 1 of the 4 cores"),
        ((3,), 2, (), "hold 3 of the 4 cores here, and this run needs 2: runs share cores"),
        ((), 0, (), None),  # nothing is pinned
    ],
)
def test_free_cores_are_taken_and_sharing_is_said(
    free: tuple[int, ...], wanted: int, cores: tuple[int, ...], said: str | None
) -> None:
    claim = choose_cores([0, 1, 2, 3], free, wanted)
    assert claim.cores == cores
    assert claim.note is None if said is None else said in str(claim.note)


def test_runs_at_once_hold_different_cores_until_they_end(tmp_path: Path, eight_cores: None) -> None:
    folder = tmp_path / "locks"
    with hold_cores(plan(0, 1, 2), folder) as first:
        assert first == CoreClaim()
        with hold_cores(plan(0, 1, 2), folder) as second, hold_cores(plan(0, 1, 2), folder) as third:
            assert second.cores == (5, 2, 6)
            assert third.cores == () and "hold 6 of the 8 cores" in str(third.note)
        with hold_cores(plan(0, 1, 2, 3), folder) as next_one:
            assert next_one.cores == (5, 2, 6, 3)
    with hold_cores(plan(0, 1), folder) as alone:
        assert alone == CoreClaim()


def test_a_killed_run_holds_nothing(tmp_path: Path, eight_cores: None) -> None:
    program = (
        "import sys, time; from pathlib import Path; from saman.launcher.plan import core_claims\n"
        "core_claims._claim(Path(sys.argv[1]), [0, 4], 2, held := {}); print(len(held), flush=True); time.sleep(60)"
    )
    folder = tmp_path / "locks"
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "2\n"
        with hold_cores(plan(0), folder) as claim:
            assert claim.cores == (1,)
        other.kill()
    with hold_cores(plan(0), folder) as claim:
        assert claim == CoreClaim()


def test_a_folder_that_cannot_be_used_keeps_nobody_from_running(tmp_path: Path, eight_cores: None) -> None:
    (tmp_path / "file").touch()
    with hold_cores(plan(0), tmp_path / "file" / "locks") as claim:
        assert claim.cores == () and str(tmp_path) in str(claim.note)


@pytest.mark.parametrize("planted", ["link", "fifo", "file"])
def test_what_another_put_in_the_place_of_the_folder_is_named_and_left_alone(
    planted: str, tmp_path: Path, eight_cores: None
) -> None:
    folder, elsewhere = tmp_path / "locks", tmp_path / "elsewhere"
    elsewhere.mkdir()
    {"link": lambda: folder.symlink_to(elsewhere), "fifo": lambda: os.mkfifo(folder), "file": folder.touch}[planted]()
    with hold_cores(plan(0), folder) as claim:
        assert claim.cores == () and "remove it" in str(claim.note)
    assert list(elsewhere.iterdir()) == []


def test_a_gate_that_nobody_opens_delays_a_run_by_seconds_and_is_said(
    tmp_path: Path, eight_cores: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core_claims, "GATE_SECONDS", 0.2)
    folder = own_folder(tmp_path / "locks")
    with locks.hold(folder / "gate"), hold_cores(plan(0), folder) as claim:
        assert claim.cores == () and f"process {os.getpid()}" in str(claim.note)


def test_only_the_owner_can_hold_the_gate_and_everyone_can_see_the_cores(tmp_path: Path, eight_cores: None) -> None:
    folder = tmp_path / "locks"
    with hold_cores(plan(0), folder):
        assert folder.stat().st_mode & 0o7777 == 0o755
        assert (folder / "gate").stat().st_mode & 0o077 == 0
        assert (folder / "0").stat().st_mode & 0o044 == 0o044


def test_a_folder_under_the_name_of_a_third_user_claims_nothing(tmp_path: Path, eight_cores: None) -> None:
    theirs = own_folder(tmp_path / f"saman-cores-{os.geteuid() + 1}")
    with locks.hold(theirs / "0"), hold_cores(plan(0), tmp_path / f"saman-cores-{os.geteuid()}") as claim:
        assert claim == CoreClaim()


def test_a_rank_counts_its_cores_within_those_that_its_run_keeps_to() -> None:
    allowed = (0, 4, 1, 5, 2, 6, 3, 7)
    kept = usable_cores(allowed, "5,2,6")
    assert [select_cores(kept, (index,)) for index in range(3)] == [(5,), (2,), (6,)]
    assert usable_cores(allowed, None) == usable_cores(allowed, "") == usable_cores(allowed, "9") == allowed
