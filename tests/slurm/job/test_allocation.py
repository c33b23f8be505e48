"""The allocation is read from Slurm's variables."""

from __future__ import annotations

from saman.slurm.job.allocation import allocation, cpus_per_node


def test_the_allocation_is_read_from_slurms_variables() -> None:
    environ = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2",
               "SLURM_JOB_NODELIST": "r[1-2]n[01-02]", "SLURM_JOB_CPUS_PER_NODE": "4(x3),8"}  # fmt: skip
    found = allocation(environ, 0)
    assert (found.job, found.nodes, found.cores) == ("7_2", ("r1n01", "r1n02", "r2n01", "r2n02"), (4, 4, 4, 8))
    assert [node.pinnable for node in found.offers(allowed_here=4)] == [True] * 4
    assert not found.offers(allowed_here=64)[0].pinnable
    assert cpus_per_node("", 2) == (1, 1)
