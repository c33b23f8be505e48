"""The questions about limits stay small on a large site."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.slurm.stubs import calls, stubs

from saman.slurm.site.user_limits import read_user_limits

SCONTROL = f"""
echo "Current Association Manager state"
echo "Association Records"
case "$*" in
  *accounts=lab*) echo "ClusterName=c Account=lab UserName= ParentAccount=physics(3) GrpJobs=4(1)"
    echo "ClusterName=c Account=lab UserName=me({os.getuid()}) ParentAccount= MaxJobs=2" ;;
  *accounts=physics*) echo "ClusterName=c Account=physics UserName= ParentAccount=root(1) GrpJobs=40(9)" ;;
  *accounts=root*) echo "ClusterName=c Account=root UserName= ParentAccount= GrpJobs=400(99)" ;;
esac
case "$*" in *flags=assoc,qos*) echo "QOS=long(7) MaxWallPJ=60 Account Limits= User Limits=" ;; esac
"""


def test_limits_are_asked_for_account_by_account_up_to_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", stubs(tmp_path, {"scontrol": SCONTROL, "sacctmgr": "exit 1"}))
    found = read_user_limits("lab", "long").limits
    assert {(limit.owner, limit.amount) for limit in found} == {
        ("account lab", 4), ("you in account lab", 2), ("account physics", 40), ("account root", 400), ("QOS long", 60),
    }  # fmt: skip
    asked = [call for call in calls(tmp_path) if "assoc_mgr" in call]
    assert [call.split()[5] for call in asked] == ["accounts=lab", "accounts=physics", "accounts=root"]
