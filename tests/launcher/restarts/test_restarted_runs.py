"""Real ranks that crash, are killed or hang: the run goes on by itself, and every decision leaves a sentence."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from ranks import Ranks, Seen, wait_for

from saman.configs.schemas.monitoring import Notify
from saman.launcher.local import run_script
from saman.launcher.planning import Options, gather_facts
from saman.launcher.supervision.signals import RECORDED
from saman.runs.events import Event

RESTART = {"times": 3, "window": "1h", "backoff": "1s"}
HEAD = "import os, signal, sys, time\nrank, n = int(os.environ['SAMAN_FIRST_RANK']), int(os.environ['SAMAN_ATTEMPT'])\n"


@pytest.fixture(autouse=True)
def escaped() -> Iterator[list[int]]:
    """The signals that reached these tests themselves, which they must not end."""
    numbers: list[int] = []
    before = {number: signal.signal(number, lambda caught, _: numbers.append(caught)) for number in RECORDED}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)
    assert not numbers


def kinds(ranks: Ranks, *wanted: str) -> list[Event]:
    return [event for event in ranks.run_folder().events() if event.kind in wanted]


@pytest.mark.parametrize(
    "text",
    ["os.kill(os.getpid(), signal.SIGKILL)", "os.kill(os.getppid(), signal.SIGKILL)", "raise OSError(n, 'lost')"],
    ids=["killed", "its wrapper killed", "an error on a single rank"],
)
def test_a_run_goes_on_by_itself_after_the_end_of_a_rank(ranks: Ranks, text: str) -> None:
    seen = Seen()
    body = f"if n < 2:\n    if rank == 1: {text}\n    time.sleep(60)\n"
    outcome = ranks.run(HEAD + body, view=seen, restart=RESTART)
    assert outcome.exit_code == 0 and outcome.attempt == 2, outcome.message
    decisions = kinds(ranks, "restarting")
    assert [event.attempt for event in decisions] == [1]
    assert all(event.facts["reason"] in seen.said for event in decisions)
    assert not kinds(ranks, "failed", "not_restarted")
    assert ranks.nobody_is_left()


def test_a_rank_that_hangs_is_restarted_where_a_stall_aborts(ranks: Ranks) -> None:
    body = "time.sleep(60 if n == 1 and rank == 0 else 0)\n"
    outcome = ranks.run(HEAD + body, restart=RESTART, on_stall="abort", stall_seconds={"train": 2.0})
    assert outcome.exit_code == 0 and outcome.attempt == 2, outcome.message
    assert kinds(ranks, "restarting")[0].facts["cause"] == "stall"


@pytest.mark.parametrize(
    ("text", "attempts"),
    [("sys.exit(2)", 1), ("raise ValueError('the same everywhere')", 1), ("os.kill(os.getpid(), 9)", 2)],
    ids=["exit 2", "the same error", "the limit"],
)
def test_what_another_attempt_would_not_mend_is_not_restarted(ranks: Ranks, text: str, attempts: int) -> None:
    policy = {"times": 1, "backoff": "1s"}
    outcome = ranks.run(HEAD + text, restart=policy)
    assert outcome.exit_code == 1 and outcome.attempt == attempts
    assert len(kinds(ranks, "not_restarted", "failed")) == 2
    assert ranks.run_folder().state.value == "failed"


def test_a_program_that_cannot_be_started_is_not_tried_again(ranks: Ranks) -> None:
    spec = ranks.spec("", ranks=1, restart=RESTART).model_copy(update={"command": ["/no/such/program"]})
    outcome = run_script(spec, Options(runs_dir=ranks.folder / "runs", facts=gather_facts()))
    assert (outcome.exit_code, outcome.attempt) == (1, 1), outcome.message


def test_without_the_key_a_failing_rank_ends_the_run(ranks: Ranks) -> None:
    outcome = ranks.run(HEAD + "sys.exit(4)")
    assert outcome.attempt == 1 and not kinds(ranks, "restarting", "not_restarted")


def test_ctrl_c_while_somebody_is_told_of_a_restart_ends_the_run(ranks: Ranks) -> None:
    tell = f"touch {ranks.folder}/telling; sleep 3"

    def stop() -> None:
        wait_for((ranks.folder / "telling").exists)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    spec = ranks.spec(HEAD + "os.kill(os.getpid(), 9)", ranks=1, restart={"backoff": "1h", "longest_backoff": "1h"})
    spec = spec.model_copy(update={"notify": Notify(command=["sh", "-c", tell])})
    outcome = run_script(spec, Options(runs_dir=ranks.folder / "runs", facts=gather_facts()))
    thread.join()
    assert (outcome.state.value, outcome.attempt) == ("cancelled", 1)
    assert ranks.run_folder().state.value == "cancelled"


@pytest.mark.parametrize("number", RECORDED)
def test_a_signal_between_the_end_of_an_attempt_and_the_pause_stops_the_run(ranks: Ranks, number: int) -> None:
    class View(Seen):
        def say(self, text: str) -> None:
            if text.startswith("attempt 1"):  # the attempt has ended, and the pause has not begun
                os.kill(os.getpid(), number)

    spec = ranks.spec(HEAD + "os.kill(os.getpid(), 9)", ranks=1, restart={"backoff": "1h", "longest_backoff": "1h"})
    outcome = run_script(spec, Options(runs_dir=ranks.folder / "runs", facts=gather_facts()), View())
    assert outcome.state.value == ("preempted" if number == signal.SIGUSR1 else "cancelled") and outcome.attempt == 1
    assert ranks.run_folder().state is outcome.state


@pytest.mark.parametrize(
    ("ask", "state", "code"), [("signal", "cancelled", 130), ("USR1", "preempted", 85), ("request", "preempted", 85)]
)
def test_a_run_that_waits_to_restart_is_running_and_can_be_stopped(
    ranks: Ranks, ask: str, state: str, code: int
) -> None:
    waited: list[Any] = []

    def stop() -> None:
        wait_for(lambda: list((ranks.folder / "runs").glob("*/*")) and kinds(ranks, "restarting"))
        waited.append(ranks.run_folder().state.value)
        if ask == "request":
            ranks.run_folder().request_stop("a test", "user")
        else:
            os.kill(os.getpid(), signal.SIGTERM if ask == "signal" else signal.SIGUSR1)

    thread = threading.Thread(target=stop)
    thread.start()
    outcome = ranks.run(HEAD + "os.kill(os.getpid(), 9)", restart={"backoff": "1h", "longest_backoff": "1h"})
    thread.join()
    assert waited == ["running"]
    assert (outcome.state.value, outcome.exit_code, outcome.attempt) == (state, code, 1)
    assert ranks.run_folder().state.value == state
