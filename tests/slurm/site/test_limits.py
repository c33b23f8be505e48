"""The limits on the user are read from what Slurm prints."""

from __future__ import annotations

from tests.slurm.limits_text import LIMITS

from saman.slurm.site import limits


def test_only_the_limits_that_count_for_me_are_read() -> None:
    found = {
        (each.owner, each.name, each.resource): (each.amount, each.used)
        for each in limits.read_limits(LIMITS, "a", ["fast"], 7)
    }
    assert found == {
        ("account root", "GrpTRES", "gres/gpu"): (16, 4),
        ("account a", "GrpJobs", "jobs"): (4, 3),
        ("account a", "GrpTRESMins", "cpu-minutes"): (600, 300),
        ("account a", "MaxWallPJ", "wall"): (120, None),
        ("you in account a", "MaxJobs", "jobs"): (2, None),
        ("you in account a", "MaxTRESPJ", "node"): (1, None),
        ("QOS fast", "MaxWallPJ", "wall"): (5, None),
        ("QOS fast", "MaxSubmitJobsPU", "submit"): (2, 1),
    }


def test_limits_of_a_qos_that_nobody_has_used_yet_are_read_too() -> None:
    known = limits.read_limits(LIMITS, "a", ["fast"], 7)
    found = limits.unused_limits("fast||5|cpu=16,gres/gpu=2|9||\nslow||||||\n", known)
    assert {(each.name, each.resource): (each.amount, each.used) for each in found} == {
        ("MaxTRESPU", "cpu"): (16, 0), ("MaxTRESPU", "gres/gpu"): (2, 0), ("MaxJobsPA", "jobs"): (9, 0),
    }  # fmt: skip
