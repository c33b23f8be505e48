"""The first failing rank is named, with its reason, and the other ranks are stopped in time."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from ranks import PLAIN, Ranks, Seen, wait_for
from supervised import MPI, PROGRAM, experiment_run, supervise_program

from saman.configs.errors import ExitCode
from saman.launcher.node.machine import Node
from saman.launcher.planning import Options
from saman.runs.events import State

pytestmark = pytest.mark.ranks


@pytest.mark.parametrize("starter", ["processes", MPI])
def test_a_killed_rank_is_named_and_the_rest_is_stopped_in_time(ranks: Ranks, starter: str) -> None:
    program = PROGRAM + "if rank == 1: os.kill(os.getpid(), signal.SIGKILL)\ntime.sleep(300)"
    view = Seen()
    outcome = ranks.run(program, ranks=3, starter=starter, view=view)
    assert (outcome.state, outcome.exit_code) == (State.FAILED, ExitCode.RUN_FAILED)
    assert outcome.failure is not None
    assert [(failed.rank, failed.signal) for failed in outcome.failure.first] == [(1, 9)]
    assert "rank 1 on" in outcome.message and "SIGKILL (9)" in outcome.message and "out-of-memory" in outcome.message
    assert outcome.failure.first[0].last_lines == ("hello from rank 1",)
    assert outcome.seconds < 60  # the program would sleep for 300
    assert outcome.run.summary().failure["first"][0]["rank"] == 1  # type: ignore[union-attr, index]
    assert sorted(view.lines)[:1] == [(0, "hello from rank 0")]
    assert ranks.nobody_is_left(seconds=0.5)


def test_a_rank_that_crashes_in_compiled_code_says_in_which_call(ranks: Ranks) -> None:
    crash = "def decode():\n    os.kill(os.getpid(), signal.SIGSEGV)\nif rank == 1: decode()\ntime.sleep(300)"
    outcome = ranks.run(PROGRAM + crash)
    assert "SIGSEGV (11)" in outcome.message and outcome.message.endswith(" in decode")


@pytest.mark.parametrize("starter", ["processes", MPI])
def test_a_rank_that_raises_is_named_with_its_last_lines(ranks: Ranks, starter: str) -> None:
    program = (
        PROGRAM
        + "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        + "if rank == 0: raise ValueError('no such column')\ntime.sleep(300)"
    )
    outcome = ranks.run(program, starter=starter)
    assert outcome.failure is not None
    assert [(failed.rank, failed.code) for failed in outcome.failure.first] == [(0, 1)]
    assert outcome.failure.first[0].last_lines[-1] == "ValueError: no such column"
    assert outcome.seconds < 60  # the program would sleep for 300
    assert ranks.nobody_is_left(seconds=0.5)


@pytest.mark.parametrize("starter", ["processes", MPI])
def test_ranks_that_fail_at_once_are_all_listed(ranks: Ranks, starter: str) -> None:
    program = (
        PROGRAM
        + """
open(f"here-{rank}", "w").close()
while not all(os.path.exists(f"here-{other}") for other in range(4)): time.sleep(0.01)
time.sleep(0.15 * rank)
raise SystemExit(7)
"""
    )
    outcome = ranks.run(program, ranks=4, starter=starter)
    assert outcome.failure is not None
    assert [(failed.rank, failed.code) for failed in outcome.failure.first] == [(0, 7), (1, 7), (2, 7), (3, 7)]
    assert "and at the same time ranks 1, 2, 3" in outcome.message
    assert outcome.exit_code == ExitCode.RUN_FAILED


def test_the_loss_of_a_peer_is_not_the_first_failure(ranks: Ranks) -> None:
    program = (
        PROGRAM
        + "if rank == 0: raise RuntimeError('HorovodInternalError: Connection closed by peer')\n"
        + "time.sleep(0.3); sys.exit(3)"
    )
    outcome = ranks.run(program)
    assert outcome.failure is not None
    assert [(failed.rank, failed.code) for failed in outcome.failure.first] == [(1, 3)]
    assert outcome.failure.others == 1


def test_a_killed_wrapper_is_noticed_and_takes_its_program_along(ranks: Ranks) -> None:
    outcome = ranks.run(PROGRAM + "if rank == 1: os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(300)")
    assert outcome.failure is not None
    assert [(failed.rank, failed.signal) for failed in outcome.failure.first] == [(1, 9)]
    assert ranks.nobody_is_left(seconds=0.5)


def test_a_wrapper_started_by_hand_and_killed_takes_everything_along(ranks: Ranks) -> None:
    _, run = experiment_run(ranks.folder, 1)
    program = PROGRAM + "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
    argv = [sys.executable, "-m", "saman.launcher.rank", str(run.path), "--", sys.executable, "-c", program]
    environ = {**os.environ, "SAMAN_TEST_MARK": ranks.mark, "SAMAN_RUN": str(run.path), "SAMAN_ATTEMPT": "1"}
    with subprocess.Popen(argv, env=environ) as wrapper:
        wait_for(lambda: b"hello" in (log.read_bytes() if (log := run.attempt(1).log(0)).exists() else b""))
        assert len(ranks.left()) >= 4  # wrapper, guard, program, its child
        wrapper.kill()
    assert ranks.nobody_is_left(seconds=5)


def test_a_program_that_does_not_exist_is_said(ranks: Ranks) -> None:
    spec = ranks.spec("").model_copy(update={"command": ["no-such-program", "x"]})
    from saman.launcher.local import run_script

    outcome = run_script(spec, Options(runs_dir=ranks.folder / "runs", facts=PLAIN))
    assert "'no-such-program' cannot be started: No such file or directory" in outcome.message
    assert outcome.exit_code == ExitCode.RUN_FAILED


def test_a_rank_elsewhere_than_planned_fails_the_run(ranks: Ranks) -> None:
    outcome = supervise_program(ranks, "print('never')", nodes=(Node("elsewhere", 2),))
    assert outcome.state is State.FAILED
    assert "was planned on elsewhere, but is on" in outcome.message
    assert outcome.failure.first[0].kind == "misplaced"
