"""Windows of telemetry: read back as they were written; a step that a resumed run repeats counts once."""

from __future__ import annotations

from typing import Any

from saman.runs.telemetry.window import Window, without_repeats


def window(step: int, steps: int = 10, **more: Any) -> Window:
    """A window of the only rank of two."""
    return Window(rank=0, ranks_here=1, size=2, step=step, steps=steps, epoch=0, samples=8, seconds=1.0,
                  input_wait_seconds=0.1, **more)  # fmt: skip


def test_steps_repeated_after_a_resume_count_once() -> None:
    first = [window(10), window(20), window(30, loss=1.0)]
    kept, repeated = without_repeats([first, [], [window(30, loss=2.0), window(40)]])
    assert [each.step for each in kept] == [10, 20, 30, 40]
    assert kept[2].loss == 2.0
    assert repeated == 1
    kept, repeated = without_repeats([[window(10), window(20)], [window(15, steps=5), window(25)]])
    assert [each.step for each in kept] == [10, 15, 25]


def test_a_window_is_read_back_and_one_of_another_schema_is_not() -> None:
    written = window(10, loss=0.5, exchange_seconds=0.2)
    assert Window.from_json(written.to_json()) == written
    assert Window.from_json({**written.to_json(), "schema": 99}) is None
    assert Window.from_json({"schema": 1, "step": 3}) is None
