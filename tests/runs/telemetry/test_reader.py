"""Reading runs as killed writers, resumed attempts and other versions leave them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from synthetic import Made, write_run

from saman.runs.telemetry.reader import read_telemetry
from saman.runs.telemetry.throughput import Throughput
from saman.runs.telemetry.window import Window
from saman.scaling.analysis.results import read_run
from saman.scaling.analysis.run_values import ExcludedRun, ExclusionReason


def _run(tmp_path: Path, **changes: object) -> Path:
    return write_run(tmp_path / "run", Made(**{"ranks": 2, "windows": 20, **changes}))  # type: ignore[arg-type]


def _exclusion(run: Path) -> ExclusionReason:
    found = read_run(run)
    assert isinstance(found, ExcludedRun)
    return found.exclusion.reason


def _file(run: Path, rank: int = 0, attempt: int = 1) -> Path:
    return run / "attempts" / str(attempt) / "telemetry" / f"{rank:05d}.jsonl"


def test_throughput_is_summed_over_ranks_and_not_multiplied(tmp_path: Path) -> None:
    run = _run(tmp_path)
    lines = [json.loads(line) for line in _file(run, 1).read_text().splitlines()]
    _file(run, 1).write_text("".join(json.dumps({**line, "samples": 1}) + "\n" for line in lines))
    found = read_telemetry(run, 2)
    assert found.samples[0] == 128 * 10 + 1
    assert found.left_out.compiled == 1
    assert len(found.samples) == 19


def test_the_programs_own_records_are_read(tmp_path: Path) -> None:
    run = _run(tmp_path)
    for rank in (0, 1):
        windows = [Window(rank, 1, 2, 10 * (i + 1), 10, 1, 320, 0.5, 0.1, 0.2, loss=1.0) for i in range(12)]
        _file(run, rank).write_text("".join(json.dumps(window.to_json()) + "\n" for window in windows))
    found = read_telemetry(run, 2)
    assert found.throughput() == Throughput(1280.0, 1280.0, 1280.0, 1280.0, windows=12)
    assert found.exchange_per_step is not None
    assert found.exchange_per_step[0] == pytest.approx(0.02)


def test_torn_lines_are_dropped_and_counted(tmp_path: Path) -> None:
    run = _run(tmp_path)
    with _file(run).open("ab") as file:
        file.write(b'{"schema":1,"rank":0,"ra')
    found = read_telemetry(run, 2)
    assert found.left_out.torn == 1
    assert len(found.samples) == 19


@pytest.mark.parametrize("value", ["true", '"0.5"', "[1]", "null", "1e999", "NaN", "1" + "0" * 400, "0.25"])
def test_a_short_file_reads_as_a_long_one(value: str, tmp_path: Path) -> None:
    short, long = _run(tmp_path / "a"), _run(tmp_path / "b")
    blank_lines = "\n" * 20_000  # which no reader counts
    for run, more in ((short, ""), (long, blank_lines)):
        text = _file(run).read_text().replace('"input_wait_seconds":0.020000', f'"input_wait_seconds":{value}', 1)
        assert value in text
        _file(run).write_text(text + more)
    one, other = read_telemetry(short, 2), read_telemetry(long, 2)
    assert one.left_out == other.left_out
    np.testing.assert_array_equal(one.input_wait_per_step, other.input_wait_per_step)
    np.testing.assert_array_equal(one.samples, other.samples)


def test_records_of_another_schema_are_dropped_and_counted(tmp_path: Path) -> None:
    run = _run(tmp_path)
    for rank in (0, 1):
        _file(run, rank).write_text(_file(run, rank).read_text().replace('"schema":1', '"schema":2'))
    assert read_telemetry(run, 2).left_out.foreign_schema == 40
    assert _exclusion(run) is ExclusionReason.NO_TELEMETRY_OF_THIS_SCHEMA


@pytest.mark.parametrize("bad", ["NaN", "-1.0", "0", "null", '"soon"'])
def test_seconds_that_are_no_time_are_dropped_and_counted(tmp_path: Path, bad: str) -> None:
    run = _run(tmp_path)
    lines = _file(run).read_text().splitlines()
    record = json.loads(lines[5])
    lines[5] = json.dumps({**record, "seconds": "BAD"}).replace('"BAD"', bad)
    _file(run).write_text("\n".join(lines) + "\n")
    found = read_telemetry(run, 2)
    assert found.left_out.not_finite == 1
    assert found.left_out.incomplete == 1  # the window now lacks a rank
    assert len(found.samples) == 18


def test_a_later_attempt_replaces_the_windows_it_repeats(tmp_path: Path) -> None:
    run = _run(tmp_path, ranks=1)
    lines = _file(run).read_text().splitlines(keepends=True)
    _file(run, attempt=2).parent.mkdir(parents=True)
    _file(run, attempt=2).write_text("".join(lines[12:]))
    _file(run).write_text("".join(lines[:15]))
    found = read_telemetry(run, 1)
    assert found.left_out.repeated == 3
    assert np.all(np.diff(found.last_step) == 10)
    assert found.last_step[-1] == 200


def test_a_run_without_any_throughput_does_not_count(tmp_path: Path) -> None:
    run = _run(tmp_path, ranks=1)
    lines = [json.loads(line) for line in _file(run).read_text().splitlines()]
    _file(run).write_text("".join(json.dumps({**line, "samples": 0}) + "\n" for line in lines))
    assert _exclusion(run) is ExclusionReason.INVALID_THROUGHPUT


def test_a_killed_run_does_not_count_and_says_so(tmp_path: Path) -> None:
    assert _exclusion(_run(tmp_path, state="running")) is ExclusionReason.UNFINISHED
    assert _exclusion(write_run(tmp_path / "other", Made(state="failed"))) is ExclusionReason.FAILED


def test_windows_after_a_resume_on_fewer_ranks_are_kept(tmp_path: Path) -> None:
    run = _run(tmp_path)
    for attempt, size, first in ((1, 2, 0), (2, 1, 6)):
        for rank in range(size):
            windows = [Window(rank, 1, size, 10 * (first + i + 1), 10, 1, 320, 0.5, 0.1) for i in range(6)]
            file = _file(run, rank, attempt)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(window.to_json()) + "\n" for window in windows))
    found = read_telemetry(run)
    assert found.left_out.incomplete == 0
    assert found.samples.tolist() == [640.0] * 6 + [320.0] * 6
