"""Whether a node of an allocation still starts job steps."""

from __future__ import annotations

from saman.runs.commands import COMMAND_ERRORS, run_command

PROBE_SECONDS = 20.0


def answers(node: str, job: str = "") -> bool:
    """Probe a node: whether a job step starts there within ``PROBE_SECONDS``.

    Args:
        node: A node of this allocation, or of another job of the same user.
        job: That other job; empty for this allocation.
    """
    command = ["srun", *([f"--jobid={job}"] if job else []), "--overlap", "--nodes=1", "--ntasks=1",
               "--cpus-per-task=1", "--mem=0", f"--nodelist={node}", "--mpi=none", "--quiet", "true"]  # fmt: skip
    try:
        return run_command(command, timeout_seconds=PROBE_SECONDS).returncode == 0
    except COMMAND_ERRORS:
        return False
