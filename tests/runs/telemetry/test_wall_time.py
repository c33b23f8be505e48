"""End to end, every second of a run's attempts counts: start, tracing, validation, checkpoints, but no time between."""

from __future__ import annotations

import doctest
import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import Made, curve, write_run, write_runs

import saman.runs.telemetry.wall_time
from saman.runs.events import Event
from saman.runs.telemetry.throughput import end_to_end_rate
from saman.runs.telemetry.wall_time import wall_time
from saman.scaling.analysis.analysis import analyse
from saman.scaling.analysis.findings import FindingKind
from saman.scaling.analysis.results import read_run, read_runs
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.report.pages import study_page
from saman.scaling.report.tables import prediction_rows
from saman.scaling.report.writer import TableKind

STEPS = 300  # of 256 samples, 0.1 s each: 30 s of steps in a run of 100 s
MADE = Made(step_seconds=0.1, windows=30, window_steps=10, noise=0, between=0, warmup=0)


def _event(kind: str, time: float) -> Event:
    return Event(kind, "supervisor", time)


def test_wall_time_is_that_of_the_attempts() -> None:
    preempted = [_event("created", 0), _event("queued", 5), _event("attempt_started", 100), _event("preempted", 160)]
    found = wall_time(
        [*preempted, _event("attempt_started", 1000), _event("completed", 1050), _event("published", 2000)]
    )
    assert found is not None
    assert found.attempts == ((100, 160), (1000, 1050))
    assert found.seconds == 110
    assert found.until(1010) == 70


def test_a_killed_supervisor_ends_its_attempt_with_the_last_event() -> None:
    found = wall_time([_event("attempt_started", 100), _event("epoch", 130), _event("attempt_started", 500)], now=510.0)
    assert found is not None
    assert found.attempts == ((100, 130), (500, 510))


def test_without_an_attempt_there_is_no_wall_time() -> None:
    assert wall_time([_event("created", 1.0)]) is None
    assert end_to_end_rate(0, 5.0) is None
    assert doctest.testmod(saman.runs.telemetry.wall_time).failed == 0


def test_validation_and_checkpoints_lower_the_end_to_end_rate_only(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", MADE))
    assert isinstance(run, MeasuredRun)
    assert run.measured.samples_per_second == pytest.approx(2560)
    assert run.measured.end_to_end_samples_per_second == pytest.approx(256 * STEPS / 100)


def test_tracing_steps_count_end_to_end(tmp_path: Path) -> None:
    """The samples of the step that traced the graph are among those that the wall time bought."""
    path = write_run(tmp_path / "run", replace(MADE, ranks=2))
    run = read_run(path)
    assert isinstance(run, MeasuredRun)
    assert run.windows.excluded.compiled == 1
    assert run.measured.end_to_end_samples_per_second == pytest.approx(256 * STEPS / 100)


def test_time_to_accuracy_starts_with_the_attempt(tmp_path: Path) -> None:
    """Not with the first steady window: whoever waits for an accuracy waits for the start too."""
    path = write_run(tmp_path / "run", MADE)
    events = [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]
    late = [{**event, "time": event["time"] - 40.0 * (event["kind"] == "attempt_started")} for event in events]
    (path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in late))
    run = read_run(path)
    assert isinstance(run, MeasuredRun)
    assert run.measured.epochs[0].seconds == pytest.approx(40.0 + 10.0)
    assert run.measured.wall_seconds == pytest.approx(140.0)


def test_node_hours_contain_the_time_outside_of_steps(tmp_path: Path) -> None:
    """An epoch of 100 steps takes 10 s in steps, and 70 s of the run's 100 s for 3 epochs pass outside of them."""
    found = analyse(read_runs(write_runs(tmp_path / "made", curve(MADE, (1, 2, 4), 0.0, 1))), predict_at=[8])
    (row,) = prediction_rows(found.drawable)
    in_steps = 256 * 100 / row.samples_per_second
    outside = (100.0 - 30.0 / 4) / 3
    assert row.node_hours_per_epoch == pytest.approx((in_steps + outside) * row.nodes / 3600, rel=0.01)


def test_stalls_are_found_and_the_page_states_the_definition(tmp_path: Path) -> None:
    """40 % of the windows take four times as long."""
    path = write_run(tmp_path / "r" / "20260101-000000-000000", replace(MADE, windows=41))
    file = path / "attempts/1/telemetry/00000.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [
        {**line, "seconds": line["seconds"] * (4 if index % 5 in (1, 3) else 1)} for index, line in enumerate(lines)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = analyse(read_runs([path]))
    (uneven,) = (finding for finding in found.findings if finding.kind is FindingKind.UNEVEN_WINDOWS)
    assert not uneven.note  # the exit status says so
    page = study_page(found, "made", "saman report made")
    points = next(table for table in page.tables if table.kind is TableKind.POINTS)
    for word in ("sustained", "slowest rank", "validation", "checkpoints", "wall time"):
        assert word in points.note
    row = dict(zip([column.name for column in points.columns], points.rows[0], strict=True))
    assert row["windows"] == "2560 [640, 2560]"
    assert float(row["samples/s"]) == pytest.approx(2560 * 5 / (3 + 2 * 4), rel=0.03)


def test_even_windows_are_no_finding(tmp_path: Path) -> None:
    found = analyse(read_runs(write_runs(tmp_path / "r", [replace(MADE, noise=0.02)] * 6)))
    assert FindingKind.UNEVEN_WINDOWS not in {finding.kind for finding in found.findings}
