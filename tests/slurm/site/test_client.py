"""What Slurm's commands inherit, and what their states mean."""

from __future__ import annotations

import pytest

from saman.slurm.site.client import clean_environment
from saman.slurm.site.job_states import JobState, job_state


def test_an_enclosing_jobs_variables_are_left_out_and_slurm_conf_is_kept() -> None:
    before = {"SLURM_CONF": "c", "SLURM_JOB_ID": "1", "SBATCH_ACCOUNT": "a", "SQUEUE_FORMAT": "%i", "HOME": "h"}
    assert clean_environment(before) == {"SLURM_CONF": "c", "HOME": "h"}


@pytest.mark.parametrize(
    ("slurm", "state"),
    [("CANCELLED by 1000", JobState.CANCELLED), ("COMPLETING", JobState.ENDING), ("NODE_FAIL", JobState.NODE_FAIL),
     ("OUT_OF_ME+", JobState.UNKNOWN), ("OUT_OF_MEMORY", JobState.FAILED), ("TIMEOUT", JobState.TIMEOUT)],
)  # fmt: skip
def test_slurms_states_are_understood(slurm: str, state: JobState) -> None:
    assert job_state(slurm) is state
