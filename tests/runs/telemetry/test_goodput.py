"""Goodput is kept steps × undisturbed step time ÷ wall time, and every lost second has a reason."""

from __future__ import annotations

import pytest

from saman.runs.events import Event
from saman.runs.telemetry.goodput import Goodput, goodput_of
from saman.runs.telemetry.window import Window


def window(step: int, time: float, steps: int = 10, seconds: float = 10.0, compiled: bool = False) -> Window:
    return Window(
        rank=0, ranks_here=1, size=2, step=step, steps=steps, epoch=1, samples=steps, seconds=seconds,
        input_wait_seconds=0.0, compiled=compiled, time=time,
    )  # fmt: skip


def event(kind: str, time: float, attempt: int = 1, **facts: object) -> Event:
    return Event(kind, "supervisor", time, attempt, facts)


# A step takes 1 s. Attempt 1: 5 s to its first step (tracing 1 s of them); steps 1–20; a rank dies 7 s after step 20,
# and step 15 was the newest checkpoint. A pause of 3 s. Attempt 2: 4 s to its first step; steps 16–30.
EVENTS = [
    event("created", 0.0),
    event("attempt_started", 100.0),
    event("checkpoint", 120.0, step=15, path="p", waited_seconds=0.5),
    event("restarting", 132.0, reason="r"),
    event("attempt_started", 135.0, 2),
    event("resumed", 138.0, 2, step=15, epoch=1),
    event("completed", 156.0, 2),
]
WINDOWS = {
    1: [window(1, 106.0, 1, 2.0, compiled=True), window(11, 116.0), window(20, 125.0, 9, 9.0)],
    2: [window(25, 149.0), window(30, 154.0, 5, 5.0)],
}


def test_every_second_of_a_run_with_a_failure_has_its_place() -> None:
    found = goodput_of(EVENTS, WINDOWS)
    assert found is not None
    assert (found.kept_steps, found.step_seconds, found.wall_seconds, found.failures) == (30, 1.0, 56.0, 1)
    assert found.share == pytest.approx(30 / 56)
    assert found.start_seconds == pytest.approx(4.0 + 1.0)
    assert found.lost_seconds == pytest.approx(7.0 + 5.0)  # until the end was noticed; steps 16–20 again
    assert found.restart_seconds == pytest.approx(4.0)
    assert found.waiting_seconds == pytest.approx(3.0)
    assert found.checkpoint_seconds == pytest.approx(0.5)
    lost = found.start_seconds + found.lost_seconds + found.restart_seconds + found.waiting_seconds
    assert found.other_seconds == pytest.approx(56 - 30 - lost - 0.5)


def test_seconds_in_which_an_elastic_run_formed_worlds_are_lost_to_failures_or_to_joins() -> None:
    def world(cause: str, stepped: float) -> Event:
        return event("world", 110.0, cause=cause, generation=2, slots=[0], seconds={"left": 0.1, "stepped": stepped})

    begin, end = EVENTS[:2], event("completed", 130.0)
    plain, elastic = (
        goodput_of([*begin, *worlds, end], {1: WINDOWS[1]})
        for worlds in ((), (world("start", 6.0), world("loss", 0.75), world("exchange", 0.25), world("join", 0.5)))
    )
    assert plain is not None and elastic is not None
    assert elastic.lost_seconds - plain.lost_seconds == pytest.approx(1.0)
    assert elastic.restart_seconds - plain.restart_seconds == pytest.approx(0.5)
    assert elastic.other_seconds == pytest.approx(plain.other_seconds - 1.5)


def test_steps_that_a_checkpoint_kept_beyond_the_last_window_are_not_lost() -> None:
    events = [*EVENTS[:3], event("checkpoint", 126.0, step=23, path="p"), *EVENTS[3:5]]
    events += [event("resumed", 138.0, 2, step=23, epoch=1), event("completed", 150.0, 2)]
    found = goodput_of(events, {1: WINDOWS[1], 2: [window(30, 146.0, 7, 7.0)]})
    assert found is not None and found.kept_steps == 30
    assert found.lost_seconds == pytest.approx(7.0 - 3.0)


@pytest.mark.parametrize(("end", "waiting"), [("failed", 0.0), ("cancelled", 0.0), ("preempted", 500.0)])
def test_the_time_in_which_a_failed_run_waits_for_its_user_does_not_count(end: str, waiting: float) -> None:
    events = [*EVENTS[:3], event(end, 132.0), event("attempt_started", 632.0, 2), event("completed", 642.0, 2)]
    found = goodput_of(events, {1: WINDOWS[1], 2: [window(25, 642.0)]})
    assert found is not None
    assert found.waiting_seconds == waiting and found.wall_seconds == 42.0 + waiting


def test_an_attempt_whose_supervisor_was_killed_counts_as_failed() -> None:
    events = [*EVENTS[:3], event("attempt_started", 135.0, 2), event("completed", 156.0, 2)]
    found = goodput_of(events, WINDOWS)
    assert found is not None and found.failures == 1 and found.share == pytest.approx(30 / 56)


def test_an_attempt_that_died_before_its_first_step_loses_no_step() -> None:
    events = [*EVENTS[:5], event("restarting", 137.0, 2, reason="r"), event("attempt_started", 138.0, 3)]
    events += [event("resumed", 139.0, 3, step=15, epoch=1), event("completed", 156.0, 3)]
    found = goodput_of(events, {1: WINDOWS[1], 2: [], 3: WINDOWS[2]})
    assert found is not None and found.kept_steps == 30 and found.failures == 2
    assert found.lost_seconds == pytest.approx(12.0) and found.restart_seconds == pytest.approx(2.0 + 1.0)


def test_a_run_without_steady_windows_has_no_goodput() -> None:
    assert goodput_of(EVENTS, {1: WINDOWS[1][:1]}) is None
    assert goodput_of([], {}) is None


def test_goodput_survives_its_file_and_says_what_it_lost() -> None:
    found = goodput_of(EVENTS, WINDOWS)
    assert found is not None and Goodput.from_json(found.to_json()) == found.from_json(found.to_json())
    assert Goodput.from_json({"share": "x"}) is None and Goodput.from_json(None) is None
    assert "53.6%" in found.words and "failures 21%" in found.words
