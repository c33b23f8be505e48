"""Another user plants a folder, a link or a lock where ``saman minicluster`` keeps files that it sources and runs."""

from __future__ import annotations

import os
import pwd
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
from tests.security.conftest import OtherUser

SCRIPT = Path(__file__).parents[2] / "slurm" / "minicluster.sh"


def minicluster(root: Path, word: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SAMAN_MINICLUSTER_ROOT": str(root)}
    return subprocess.run(["bash", SCRIPT, word], capture_output=True, text=True, env=environment, timeout=20)


@pytest.mark.parametrize("word", ["up", "status", "down", "env", "crash"])
def test_settings_that_another_user_wrote_are_not_sourced(
    word: str, attacker: OtherUser, shared: Path, tmp_path: Path
) -> None:
    program = (
        "import os, sys; os.makedirs(sys.argv[1] + '/etc'); os.chmod(sys.argv[1], 0o777)\n"
        "open(sys.argv[1] + '/etc/settings', 'w').write(f'touch {sys.argv[2]}\\n')"
    )
    attacker.run(program, shared / "cluster", tmp_path / "ran")
    done = minicluster(shared / "cluster", word)
    assert done.returncode == 1 and "belongs to" in done.stderr and "SAMAN_MINICLUSTER_ROOT" in done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("word", ["up", "down"])
def test_a_planted_link_does_not_lead_into_the_users_own_folders(
    word: str, attacker: OtherUser, shared: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    attacker.run("import os, sys; os.symlink(sys.argv[2], sys.argv[1])", shared / "cluster", home)
    assert "is no folder" in minicluster(shared / "cluster", word).stderr
    attacker.run("import os, sys; os.mkfifo(sys.argv[1])", shared / "fifo")
    assert "is no folder" in minicluster(shared / "fifo", word).stderr
    assert list(home.iterdir()) == [] and home.stat().st_mode & 0o777 == 0o700


def test_a_link_is_refused_whoever_made_it(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "cluster").symlink_to(tmp_path / "home")
    assert "is no folder" in minicluster(tmp_path / "cluster", "down").stderr


def test_the_lock_of_a_cluster_is_its_owners_alone(tmp_path: Path) -> None:
    (tmp_path / "cluster" / "run").mkdir(parents=True)
    minicluster(tmp_path / "cluster", "down")
    assert (tmp_path / "cluster" / "lock").stat().st_mode & 0o777 == 0o600


def test_an_own_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cluster" / "etc").mkdir(parents=True)
    (tmp_path / "cluster" / "etc" / "settings").write_text(f"touch {tmp_path / 'ran'}\n")
    (tmp_path / "cluster").chmod(0o775)
    assert "writable by other users" in minicluster(tmp_path / "cluster", "down").stderr
    assert not (tmp_path / "ran").exists()


def test_another_user_cannot_lock_the_cluster(attacker: OtherUser, shared: Path) -> None:
    (shared / "cluster" / "run").mkdir(parents=True)
    for folder in (shared / "cluster", shared / "cluster" / "run"):
        folder.chmod(0o755)
    assert minicluster(shared / "cluster", "down").returncode == 0
    program = (
        "import fcntl, os, sys, time\n"
        "try:\n    fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)\nexcept OSError:\n    pass\n"
        "print('ready', flush=True); time.sleep(60)"
    )
    with attacker.start(program, shared / "cluster" / "lock"):
        began = time.monotonic()
        assert minicluster(shared / "cluster", "down").returncode == 0
        assert time.monotonic() - began < 15


@pytest.mark.slurm
def test_another_user_cannot_run_a_job_as_the_owner_of_a_cluster(attacker: OtherUser, shared: Path) -> None:
    """A slurmd that is not root executes every job as itself."""
    owner = pwd.getpwnam("nobody")
    script = shared / "minicluster.sh"
    script.write_bytes(SCRIPT.read_bytes())
    root = str(shared / "c")
    environment = {"SAMAN_MINICLUSTER_ROOT": root, "SAMAN_MINICLUSTER_DBD": "0", "PATH": os.environ["PATH"]}
    as_owner = partial(
        subprocess.run, capture_output=True, text=True, cwd="/", env=environment, timeout=60,
        user=owner.pw_uid, group=owner.pw_gid, extra_groups=[],
    )  # fmt: skip
    try:
        up = as_owner(["bash", script, "up", "1"])
        assert up.returncode == 0, up.stderr
        environment["SLURM_CONF"] = str(shared / "c" / "etc" / "slurm.conf")
        assert f"uid={owner.pw_uid}" in as_owner(["srun", "-t1", "id"]).stdout
        conf = shared / "c" / "etc" / "slurm.conf"
        (shared / "slurm.conf").write_bytes(conf.read_bytes())  # however the attacker came by it
        (shared / "slurm.conf").chmod(0o644)
        program = (
            "import os, subprocess, sys\n"
            "done = subprocess.run(['srun', '-t1', 'id'], env={**os.environ, 'SLURM_CONF': sys.argv[1]},\n"
            "                      stdout=open(sys.argv[2], 'w'), timeout=20)\n"
        )
        attacker.run(program, shared / "slurm.conf", shared / "said")
        assert "uid=" not in (shared / "said").read_text()
    finally:
        as_owner(["bash", script, "down"])
