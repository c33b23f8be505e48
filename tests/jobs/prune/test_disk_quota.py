"""The user's quota, from what the commands of sites print."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slurm.stubs import calls, stubs

from saman.jobs.prune.disk_quota import DiskQuota, mount_of, parse_quota, read_quota_of

LINUX = """Disk quotas for user ada (uid 1000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
          /home 5242880  10485760 20971520       0   12345  100000  200000       0
"""
LUSTRE = "     /scratch  2097152*  1048576  3145728  6d23h  777  0  0  -\n"


def test_the_quota_is_read_from_linux_and_lustre() -> None:
    assert parse_quota(LINUX, "/home") == DiskQuota(5 << 30, 10 << 30, 12345, 100000)
    assert parse_quota(LUSTRE, "/scratch") == DiskQuota(2 << 30, 1 << 30, 777, None)
    assert parse_quota("quota: no file system", "/home") is None and parse_quota(LINUX, "/") is None


def test_a_site_without_such_a_command_shows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert read_quota_of(tmp_path) is None


def test_the_command_that_answers_is_asked_about_the_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = mount_of(tmp_path / "missing" / "folder")
    answer = f'echo " {mount} 4 0 8 - 2 0 0 -"'
    monkeypatch.setenv("PATH", stubs(tmp_path / "bin", {"lfs": "exit 1", "quota": answer}))
    assert read_quota_of(tmp_path) == DiskQuota(4096, 8192, 2, None)
    assert calls(tmp_path / "bin")[-1].endswith(f"-f {mount}")
