"""Job ids as Slurm's commands take them: the tasks of an array as one word. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

_TASK = re.compile(r"(\d+)_(\d+)")


def joined_tasks(ids: Iterable[str]) -> list[str]:
    """The ids in order, with all tasks of an array in one word at the place of the first.

    >>> joined_tasks(["7_0", "9", "7_1", "7_2", "7_5"])
    ['7_[0-2,5]', '9']
    """
    tasks: dict[str, set[int]] = {}
    words: dict[str, None] = {}
    for each in ids:
        match = _TASK.fullmatch(each)
        if match is None:
            words[each] = None
        else:
            tasks.setdefault(match[1], set()).add(int(match[2]))
            words[match[1] + "_"] = None
    return [word + f"[{_ranges(tasks[word[:-1]])}]" if word.endswith("_") else word for word in words]


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers as in ``0-2,5``."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in found)


def job_of_part(shown: str) -> str | None:
    """The job's id where Slurm shows the first part of a heterogeneous job; ``None`` for its other parts.

    The first part has the job script, so its state is the job's. Other ids are returned as they are.

    >>> job_of_part("17+0"), job_of_part("17+1"), job_of_part("17_3")
    ('17', None, '17_3')
    """
    job, plus, part = shown.partition("+")
    return (job if part == "0" else None) if plus else shown
