"""What a start method or Slurm says about the end of ranks that could not say it themselves. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Printed by srun and slurmstepd (20.02 to 24.05), and by mpirun's daemons.
_CAUSES = (
    (
        re.compile(r"oom[-_ ]?kill|Out Of Memory|exceeded (?:step |job )?memory limit", re.IGNORECASE),
        "out of memory: request more with resources.memory_per_rank, or use fewer ranks per node or a smaller batch",
    ),
    (re.compile(r"DUE TO TIME LIMIT"), "the job reached its time limit"),
    (re.compile(r"DUE TO PREEMPTION"), "the job was preempted"),
    (re.compile(r"DUE TO NODE FAILURE|Node failure on \S+"), "a node failed"),
)


def find_starter_cause(lines: Iterable[str]) -> str | None:
    """The cause that the start method's output names; ``None`` if it names none.

    >>> find_starter_cause(["srun: error: node1: task 0: Out Of Memory"]).split(":")[0]
    'out of memory'
    """
    text = "\n".join(lines)
    return next((cause for pattern, cause in _CAUSES if pattern.search(text)), None)
