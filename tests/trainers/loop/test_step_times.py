"""The parts of a step from its time stamps: they add up to no more than the step, whatever the clock does."""

from __future__ import annotations

import doctest
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

import saman.trainers.loop.step_times
from saman.trainers.loop.step_times import StepTotals, split_steps
from saman.trainers.loop.telemetry import TelemetryWriter

SUMS = np.array([1.0, 0.0, 2.0, 0.0])


def test_the_example_in_the_documentation_holds() -> None:
    assert doctest.testmod(saman.trainers.loop.step_times).failed == 0


@given(
    steps=some.lists(some.tuples(*[some.floats(0, 5)] * 3), min_size=1, max_size=20),
    start=some.floats(0, 2e9),
)
def test_the_parts_of_steps_add_up_to_the_time_between_stamps(
    steps: list[tuple[float, float, float]], start: float
) -> None:
    """Each step waits, works and exchanges for known times."""
    rows, now = [], start
    for waited, worked, exchanged in steps:
        rows.append([waited, now + waited + worked, now + waited + worked + exchanged])
        now = rows[-1][2]
    times = split_steps(rows, start)
    assert times.own == pytest.approx([worked for _, worked, _ in steps], abs=1e-5)
    assert times.exchange == pytest.approx([exchanged for *_, exchanged in steps], abs=1e-5)
    total = float(times.busy.sum() + times.exchange.sum())
    assert total == pytest.approx(now - start, abs=1e-4)


def test_a_clock_that_is_set_back_yields_no_negative_time() -> None:
    times = split_steps([[0.1, 101.0, 102.0], [0.1, 50.0, 49.0]], since=100.0)
    assert (times.own >= 0).all() and (times.exchange >= 0).all()


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def writer(tmp_path: Path) -> TelemetryWriter:
    return TelemetryWriter(tmp_path / "00001.jsonl", (1,), 2, 10, chief=False)


def _stamps(began: float, *parts: tuple[float, float, float]) -> list[list[float]]:
    rows = []
    for waited, worked, exchanged in parts:
        ready = began + waited + worked
        rows.append([waited, ready, ready + exchanged])
        began = ready + exchanged
    return rows


def test_a_window_has_the_exchange_of_its_own_steps(writer: TelemetryWriter, tmp_path: Path) -> None:
    for exchange in (0.002, 0.004):
        writer.pause()
        began = time.time()
        writer.add(2, 8, StepTotals(SUMS, _stamps(began, (0.001, 0.003, exchange), (0.001, 0.005, exchange))))
        time.sleep(0.03)
        writer.close_window(2, 1, lambda _: 0.1)
    first, second = _lines(tmp_path / "00001.jsonl")
    assert first["exchange_seconds"] == pytest.approx(0.004, abs=1e-6)
    assert second["exchange_seconds"] == pytest.approx(0.008, abs=1e-6)
    assert first["input_wait_seconds"] == pytest.approx(0.002, abs=1e-6)
    assert first["own_deviation_seconds"] == pytest.approx(0.002 / 2**0.5, abs=2e-4)


def test_an_exchange_longer_than_the_window_is_not_reported(writer: TelemetryWriter, tmp_path: Path) -> None:
    """The clock was set forward while the step ran."""
    writer.add(1, 8, StepTotals(SUMS, _stamps(time.time(), (0.0, 0.001, 3600.0))))
    writer.close_window(1, 1, lambda _: 0.1)
    assert "exchange_seconds" not in _lines(tmp_path / "00001.jsonl")[0]


def test_the_pace_is_known_while_the_window_is_open(writer: TelemetryWriter) -> None:
    assert writer.pace() is None
    writer.add(1, 8, StepTotals(SUMS, _stamps(time.time(), (0.0, 5.0, 0.0))), compiled=True)
    assert writer.pace() is None  # tracing is no step
    writer.close_window(1, 1, lambda _: 0.1)
    writer.add(2, 8, StepTotals(SUMS, _stamps(time.time(), (0.02, 0.1, 0.5), (0.02, 0.1, 0.5))))
    assert writer.pace() == pytest.approx(0.12, abs=0.01)


def test_the_pace_of_a_stage_comes_from_its_window(writer: TelemetryWriter) -> None:
    writer.add(1, 8, StepTotals(SUMS), input_wait_seconds=0.001)
    time.sleep(0.05)
    writer.close_window(
        1, 1, lambda _: 0.1, stage=0, stages=2, exchange_seconds=0.01, bubble_seconds=0.02, transfer_seconds=0.0
    )
    pace = writer.pace()
    assert pace is not None and 0.02 <= pace < 1.0
