"""Another user tries to stop, delay or misuse ``saman run`` through the claims of cores in the temporary folder."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.security.conftest import OtherUser

from saman.launcher.plan import core_claims
from saman.launcher.plan.core_claims import hold_cores
from saman.launcher.plan.placement import Placement, Process

PLAN = Placement((Process(0, "here", 0, 0, 1, (0,)),), 1)

LOCK = """
import fcntl, glob, os, struct, sys, time
held = []
for path in sys.argv[1:]:
    for flags, kind in ((os.O_RDWR | os.O_CREAT, fcntl.F_WRLCK), (os.O_RDONLY, fcntl.F_RDLCK)):
        try:
            held.append(os.open(path, flags, 0o666))
            fcntl.fcntl(held[-1], fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))
            fcntl.flock(held[-1], fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pass
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(core_claims, "allowed_cores", lambda: list(range(8)))


def own(shared: Path) -> Path:
    return shared / f"saman-cores-{os.geteuid()}"


def test_a_user_who_locks_every_known_file_does_not_stop_the_runs_of_others(attacker: OtherUser, shared: Path) -> None:
    with hold_cores(PLAN, own(shared)):
        pass  # the victim's folder is there, with its gate
    old = [shared / "saman-core-locks" / "gate", shared / "saman-cores" / "gate"]
    files = [own(shared) / "gate", own(shared) / "0", *old]
    with attacker.start(LOCK, *files):
        began = time.monotonic()
        with hold_cores(PLAN, own(shared)) as claim:
            assert claim.cores == (1,)  # core 0 looks taken; nothing waits, nothing fails
        assert time.monotonic() - began < 20  # whoever waits, waits for ever


@pytest.mark.parametrize(
    "plant",
    [
        "os.mkfifo(sys.argv[1])",
        "os.symlink(sys.argv[2], sys.argv[1])",
        "os.mkdir(sys.argv[1]); os.chmod(sys.argv[1], 0o777); os.mkfifo(sys.argv[1] + '/gate')",
        "open(sys.argv[1], 'w')",
    ],
)
def test_what_a_user_plants_in_the_place_of_another_is_named_and_not_used(
    attacker: OtherUser, shared: Path, tmp_path: Path, plant: str
) -> None:
    attacker.run(f"import os, sys; {plant}", own(shared), tmp_path)
    began = time.monotonic()
    with hold_cores(PLAN, own(shared)) as claim:
        assert claim.cores == () and f"{own(shared)} belongs to user {attacker.uid}" in str(claim.note)
    assert time.monotonic() - began < 20  # whoever waits, waits for ever
    assert list(tmp_path.iterdir()) == []


def test_the_folder_of_another_user_cannot_hang_a_run(attacker: OtherUser, shared: Path) -> None:
    program = (
        "import os, sys; os.mkdir(sys.argv[1])\n"
        "for core in range(4):\n    os.mkfifo(f'{sys.argv[1]}/{core}')\n"
        "for core in range(4, 8):\n    open(f'{sys.argv[1]}/{core}', 'w'); os.mkfifo(f'{sys.argv[1]}/.{core}.lease')\n"
    )
    attacker.run(program, shared / f"saman-cores-{attacker.uid}")
    attacker.run("import os, sys; os.symlink('/', sys.argv[1])", shared / "saman-cores-1")
    with hold_cores(PLAN, own(shared)) as claim:
        assert claim == core_claims.CoreClaim()


def test_a_run_of_another_user_is_seen_and_its_cores_left_to_it(attacker: OtherUser, shared: Path) -> None:
    theirs = shared / f"saman-cores-{attacker.uid}"
    attacker.run("import os, sys; os.mkdir(sys.argv[1])", theirs)
    with attacker.start(LOCK, theirs / "0", theirs / "1"), hold_cores(PLAN, own(shared)) as claim:
        assert claim.cores == (2,) and "hold 2 of the 8 cores" in str(claim.note)
