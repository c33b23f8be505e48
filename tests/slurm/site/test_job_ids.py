"""The tasks of an array are one word for Slurm."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from saman.slurm.site import client
from saman.slurm.site.job_ids import joined_tasks


@given(tasks=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 30)), max_size=40))
def test_every_task_is_named_once_in_the_word_of_its_array(tasks: list[tuple[int, int]]) -> None:
    words = joined_tasks(f"{array}_{task}" for array, task in tasks)
    named = []
    for word in words:
        array, _, ranges = word.removesuffix("]").partition("_[")
        for part in ranges.split(","):
            first, _, last = part.partition("-")
            named += [(int(array), task) for task in range(int(first), int(last or first) + 1)]
    assert sorted(named) == sorted(set(tasks)) and len(words) == len({array for array, _ in tasks})


def test_a_heterogeneous_job_is_known_by_its_first_part() -> None:
    lines = [
        "17+0|RUNNING|N/A|N/A|n1|gpu|None|train",
        "17+1|RUNNING|N/A|N/A|n2|cpu|None|train",
        "18|PENDING|N/A|N/A||x|Priority|y",
    ]
    found = [client._queued(line) for line in lines]
    assert [job.id for job in found if job is not None] == ["17", "18"]
    recorded = [client._recorded(line) for line in ("17+0|COMPLETED|0:0|x|n1", "17+1|COMPLETED|0:0|x|n2")]
    assert [job.id for job in recorded if job is not None] == ["17"]
