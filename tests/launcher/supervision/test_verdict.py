"""How an attempt ended is read from its ranks' records first; what a start method returned says least."""

from __future__ import annotations

import pytest

from saman.configs.errors import ExitCode
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.supervision.stalls import Stall
from saman.launcher.supervision.verdict import AttemptEnd, judge_attempt
from saman.runs.events import State
from saman.runs.ranks.records import RankRecord

PLACEMENT = Placement((Process(0, "here", 0, 0, 1), Process(1, "here", 1, 1, 1)), 1)
STALL = Stall((1,), "train", 7, 200.0, 120.0, "it is behind the others")


def ended(*codes: int | None, **facts: object) -> AttemptEnd:
    """An attempt whose ranks recorded ``codes``, under a starter that loses them."""
    records = {
        rank: RankRecord(rank, rank, 1, "here", "here", (), (), 1, started=1.0, ended=2.0, code=code)
        for rank, code in enumerate(codes)
        if code is not None
    }
    return AttemptEnd(PLACEMENT, "horovodrun", records, [1], **facts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "state", "code", "said"),
    [
        (ended(0, 0), State.COMPLETED, ExitCode.DONE, "completed"),
        (ended(85, 85), State.PREEMPTED, ExitCode.REQUEUE, "saman resume continues it"),
        (ended(85, 85, signals=[15]), State.PREEMPTED, ExitCode.REQUEUE, "checkpointed on request"),
        (ended(1, None, signals=[2]), State.CANCELLED, ExitCode.INTERRUPTED, "stopped by SIGINT"),
        (ended(1, None, aborted=STALL), State.FAILED, ExitCode.RUN_FAILED, "stopped after a stall: rank 1"),
        (
            ended(0, None),
            State.FAILED,
            ExitCode.RUN_FAILED,
            "1 of 2 processes never started; horovodrun ended with exit",
        ),
        (ended(0, 3), State.FAILED, ExitCode.RUN_FAILED, "ranks ended without a trace"),
    ],
)
def test_what_ranks_say_of_themselves_comes_first(what: AttemptEnd, state: State, code: ExitCode, said: str) -> None:
    found = judge_attempt(what, None)
    assert (found.state, found.exit_code) == (state, code)
    assert said in found.message
