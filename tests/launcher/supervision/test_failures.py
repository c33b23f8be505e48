"""The first failing rank is the earliest failure that is not the loss of a peer; ties are listed."""

from __future__ import annotations

from typing import Any

import pytest

from saman.launcher.supervision.failures import Failure, describe_exit, find_failure
from saman.runs.events import Event
from saman.runs.ranks.records import RankRecord


def _exited(rank: int, time: float, **facts: Any) -> Event:
    return Event("rank_exited", f"rank {rank}", time, 1, {"rank": rank, "node": f"n{rank}", **facts})


def _failed(rank: int, time: float, failure: str, message: str) -> Event:
    return Event(
        "rank_failed",
        f"rank {rank}",
        time,
        1,
        {"rank": rank, "node": f"n{rank}", "failure": failure, "message": message},
    )


def _first(failure: Failure | None) -> list[int]:
    assert failure is not None
    return [failed.rank for failed in failure.first]


def test_all_well_is_no_failure() -> None:
    assert find_failure([_exited(0, 1, code=0), _exited(1, 2, code=85)]) is None


def test_who_lost_a_peer_is_not_the_first_even_when_earlier() -> None:
    lost = _exited(0, 1.0, code=1, last_lines=["HorovodInternalError: Horovod has been shut down"])
    events = [lost, _exited(1, 1.3, signal=9), _exited(2, 4.0, code=143, stopped=True)]
    failure = find_failure(events)
    assert _first(failure) == [1]
    assert failure is not None and failure.others == 2
    assert failure.sentence().startswith("rank 1 on n1 failed first: killed by SIGKILL (9): often the kernel's")


def test_a_rank_knows_best_why_it_failed() -> None:
    events = [
        _failed(1, 2.0, "peer_lost", "lost rank 0"),
        _exited(1, 2.1, code=1),
        _failed(0, 2.2, "user_error", "model.build: no module named 'mine'"),
        _exited(0, 2.3, code=2, last_lines=["x"]),
    ]
    failure = find_failure(events)
    assert _first(failure) == [0]
    assert (
        failure is not None and failure.sentence() == "rank 0 on n0 failed first: model.build: no module named 'mine'"
    )
    assert failure.first[0].last_lines == ("x",)


def test_a_fault_in_compiled_code_names_the_call_that_python_traced() -> None:
    trace = (
        "Current thread 0x00007f (most recent call first):",
        '  File "mine.py", line 4 in decode',
        '  File "x", line 5',
    )
    failure = find_failure([_exited(0, 1.0, signal=11, last_lines=["Thread 0x1:", '  File "y", line 1', *trace])])
    assert failure is not None
    assert failure.sentence().endswith('SIGSEGV (11): a fault in compiled code: File "mine.py", line 4 in decode')


def test_failures_at_the_same_time_are_listed_in_the_order_of_ranks() -> None:
    failure = find_failure([_exited(rank, 5 - rank * 0.1, code=1) for rank in range(5)])
    assert _first(failure) == [0, 1, 2, 3, 4]
    assert failure is not None and "and at the same time ranks 1–4" in failure.sentence()
    assert _first(find_failure([_exited(0, 9.0, code=1), _exited(1, 1.0, code=1)])) == [1]


def test_only_losses_of_peers_name_the_earliest_and_say_so() -> None:
    lines = ["UnavailableError: Socket closed"]
    failure = find_failure([_exited(1, 3.0, code=1, last_lines=lines), _exited(0, 2.0, code=1, last_lines=lines)])
    assert _first(failure) == [0]
    assert failure is not None and "every failure looks like the loss of a peer" in failure.sentence()


def test_a_record_stands_in_for_a_lost_event() -> None:
    record = RankRecord(1, 1, 1, "n1", "n1", (0,), (), 7, ended=3.0, code=4)
    assert _first(find_failure([_exited(0, 5.0, code=1)], {1: record})) == [1]


def test_endings_are_said_in_plain_words() -> None:
    assert describe_exit(3, None) == "exit code 3"
    assert describe_exit(127, None) == "exit code 127: command not found"
    assert describe_exit(137, None).startswith("killed by SIGKILL (9)")
    assert describe_exit(None, 11) == "killed by SIGSEGV (11): a fault in compiled code"
    assert describe_exit(None, None) == "ended without a trace"


OOM = ["slurmstepd: error: Detected 1 oom_kill event in StepId=7.0. Some of the step tasks have been OOM Killed."]


@pytest.mark.parametrize(
    ("exit_facts", "lines", "expected"),
    [
        ({"stopped": True}, OOM, "out of memory"),
        ({"signal": 9}, ["srun: error: node1: task 0: Out Of Memory"], "out of memory"),
        ({"stopped": True}, ["slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026 DUE TO TIME LIMIT ***"], "limit"),
        ({"signal": 9, "stopped": True}, [], "did not end in time after the request to stop"),
        ({"signal": 9}, [], "often the kernel's or Slurm's out-of-memory killer"),
    ],
)
def test_a_rank_that_cannot_say_why_it_ended_is_explained_by_what_slurm_printed(
    exit_facts: dict[str, Any], lines: list[str], expected: str
) -> None:
    failure = find_failure([_exited(0, 1.0, **exit_facts)], starter_lines=lines)
    assert failure is not None and expected in failure.sentence()


def test_a_rank_that_failed_by_itself_is_not_blamed_on_memory() -> None:
    failure = find_failure([_exited(0, 1.0, code=3)], starter_lines=OOM)
    assert failure is not None and "exit code 3" in failure.sentence()
