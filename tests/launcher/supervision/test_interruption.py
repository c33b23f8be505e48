"""A run that is asked to end, interrupted or killed leaves no process, and is continued in its folder."""

from __future__ import annotations

import signal
import time

import pytest
from ranks import PLAIN, Ranks
from supervised import HOROVODRUN, MPI, PROGRAM, supervise_program

from saman.configs.errors import ExitCode, UserError
from saman.launcher.local import resume_locally
from saman.launcher.planning import Options
from saman.launcher.supervision.run_lock import hold_run, is_supervised
from saman.runs.events import State
from saman.runs.ranks.attempt_ranks import read_record

pytestmark = pytest.mark.ranks


@pytest.mark.parametrize("starter", ["processes", MPI, HOROVODRUN])
def test_ranks_that_ask_to_be_requeued_are_believed_under_every_start_method(ranks: Ranks, starter: str) -> None:
    slow_last = "import os, sys, time; time.sleep(3 * float(os.environ['SAMAN_FIRST_RANK'])); sys.exit(85)"
    outcome = ranks.run(slow_last, starter=starter, facts=PLAIN if starter != "horovodrun" else None)
    assert (outcome.state, outcome.exit_code) == (State.PREEMPTED, ExitCode.REQUEUE), outcome
    records = [read_record(outcome.run.attempt(1), rank) for rank in (0, 1)]
    assert [(record.code, record.stopped) for record in records if record] == [(85, False), (85, False)]


@pytest.mark.parametrize("starter", ["processes", MPI])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_saman_stops_all_ranks(ranks: Ranks, starter: str, number: signal.Signals) -> None:
    with ranks.saman(PROGRAM + "time.sleep(300)", starter=starter) as saman:
        began = time.monotonic()
        saman.send_signal(number)
        assert saman.wait(timeout=15) == ExitCode.INTERRUPTED
        assert time.monotonic() - began < 10
        assert saman.stdout is not None and f"stopped by {number.name}" in saman.stdout.read()
    assert ranks.nobody_is_left(seconds=0.5)
    assert ranks.run_folder().state is State.CANCELLED


@pytest.mark.parametrize("starter", ["processes", MPI])
def test_nobody_outlives_a_killed_saman(ranks: Ranks, starter: str) -> None:
    with ranks.saman(
        PROGRAM + "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)", starter=starter
    ) as saman:
        assert is_supervised(ranks.run_folder())
        assert len(ranks.left()) >= 4
        saman.kill()
        assert ranks.nobody_is_left(seconds=10)
    assert not is_supervised(ranks.run_folder())


def test_two_supervisors_never_work_on_one_run(ranks: Ranks) -> None:
    outcome = ranks.run("raise SystemExit(1)")
    with hold_run(outcome.run), pytest.raises(UserError, match="this run is running"):
        resume_locally(outcome.run, Options(facts=PLAIN))


def test_a_failed_run_is_continued_in_its_folder_and_a_completed_one_is_not(ranks: Ranks) -> None:
    program = "import os, sys; sys.exit(int(os.environ['SAMAN_ATTEMPT']) == 1)"
    outcome = ranks.run(program)
    assert outcome.state is State.FAILED
    again = resume_locally(outcome.run, Options(facts=PLAIN))
    assert (again.state, again.attempt, again.run.path) == (State.COMPLETED, 2, outcome.run.path)
    with pytest.raises(UserError, match="has completed"):
        resume_locally(outcome.run, Options(facts=PLAIN))


def test_usr1_asks_a_training_for_a_clean_end(ranks: Ranks) -> None:
    program = """
import os, signal, sys, time
from pathlib import Path
run, rank = Path(os.environ["SAMAN_RUN"]), int(os.environ["SAMAN_FIRST_RANK"])
if rank == 0: os.kill(os.getppid(), signal.SIGUSR1)
for _ in range(200):
    if (run / "control" / "stop").exists(): sys.exit(85)
    time.sleep(0.05)
"""
    outcome = supervise_program(ranks, program)
    assert (outcome.state, outcome.exit_code) == (State.PREEMPTED, ExitCode.REQUEUE), outcome
    assert [event.facts["reason"] for event in outcome.run.events() if event.kind == "stop_requested"] == ["SIGUSR1"]
