"""Pending reasons are classified, and said in plain words."""

from __future__ import annotations

import pytest

from saman.slurm.site.pending import Wait, find_limit, pending_reason


@pytest.mark.parametrize(
    ("reason", "wait", "words"),
    [
        ("Priority", Wait.SLURM, "waits behind jobs of higher priority"),
        ("JobHeldUser", Wait.USER, "scontrol release"),
        ("PartitionTimeLimit", Wait.NEVER, "more time than the partition allows"),
        ("QOSMaxWallDurationPerJobLimit", Wait.NEVER, "more time than the QOS allows in one job"),
        ("AssocGrpCpuLimit", Wait.SLURM, "the account or user may use only so many cores at once"),
        ("QOSMaxSubmitJobPerUserLimit", Wait.SLURM, "the QOS allows only so many submitted jobs for one user"),
        ("ReqNodeNotAvail,_UnavailableNodes:n1", Wait.SLURM, "nodes that are down, reserved or in maintenance"),
        ("SomethingNew", Wait.SLURM, "Slurm's reason is SomethingNew"),
    ],
)
def test_a_pending_reason_says_what_the_job_waits_for(reason: str, wait: Wait, words: str) -> None:
    found = pending_reason(reason)
    assert found.wait is wait
    assert words in found.text


@pytest.mark.parametrize(
    "word", ["BadConstraints", "InvalidQOS", "ReservationDeleted", "AssocMaxCpuPerJobLimit", "None"]
)
def test_a_job_that_never_starts_is_told_so(word: str) -> None:
    found = pending_reason(word)
    assert ("will never start" in found.text) == (found.wait is Wait.NEVER)


def test_a_limit_is_found_in_what_sbatch_prints() -> None:
    found = find_limit("sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: x")
    assert found is not None and (found.resource, found.wait) == ("submitted jobs", Wait.SLURM)
    assert find_limit("sbatch: error: Invalid qos specification") is None
