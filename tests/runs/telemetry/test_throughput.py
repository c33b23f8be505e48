"""Throughput has one definition: wherever it is reported, a stall lowers it by the time that the stall took."""

from __future__ import annotations

import ast
import doctest
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from synthetic import Made, write_run

import saman.runs.telemetry.throughput
import saman.runs.telemetry.window
from saman.configs.schemas.experiment import Experiment
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.supervision.progress import AttemptWatch
from saman.registry.tracking.run_history import read_history
from saman.runs.comparison import compare_runs
from saman.runs.files.whole import append_line
from saman.runs.folder import RunFolder
from saman.runs.telemetry.throughput import measure_training, throughput
from saman.runs.telemetry.window import Window
from saman.scaling.analysis.results import read_run
from saman.scaling.analysis.run_values import MeasuredRun

FAST, SLOW = 1.0, 4.0  # seconds per window of 1,000 samples
# 40 % of the windows take four times as long: 1,000 × 5 samples in 3 × 1 + 2 × 4 seconds
STALLED = [SLOW if index % 5 in (1, 3) else FAST for index in range(40)]
SUSTAINED = 1000 * 5 / (3 * FAST + 2 * SLOW)


@pytest.fixture
def stalled(tmp_path: Path) -> RunFolder:
    """A run of two ranks; the chief has 500 samples per window, and a graph was traced in the first."""
    experiment = {
        "name": "made", "data": {"source": "digits"}, "model": {"build": "mlp"},
        "train": {"strategy": "single", "global_batch_size": 100},
    }  # fmt: skip
    run = RunFolder.create(tmp_path, Experiment.model_validate(experiment))
    attempt = run.new_attempt()
    for index, seconds in enumerate([60.0, *STALLED], 1):
        window = Window(0, 1, 2, index * 10, 10, 1, 500, seconds, 0.0, compiled=index == 1)
        append_line(attempt.telemetry(0), window.to_json())
    return run


def test_a_stall_shows_in_the_summary(stalled: RunFolder) -> None:
    measured = measure_training(stalled, stalled.attempt(1), []).throughput
    assert measured is not None
    assert asdict(measured) == pytest.approx(
        {"sustained": SUSTAINED, "median": 1000.0, "p5": 250.0, "p95": 1000.0, "windows": 40}
    )


def test_a_stall_shows_in_tracking(stalled: RunFolder) -> None:
    points = {(point.name, point.step): point.value for point in read_history(stalled).points}
    assert points["sustained_samples_per_second", 410] == pytest.approx(SUSTAINED)
    assert points["samples_per_second", 20] == 1000 and points["samples_per_second", 30] == 250
    assert ("samples_per_second", 10) not in points  # a graph was traced


def test_a_stall_shows_while_the_run_goes_on(stalled: RunFolder) -> None:
    placement = Placement((Process(0, "node", 0, 0, 2),), 1)
    seen = AttemptWatch(stalled.attempt(1), placement).progress({})
    assert seen.samples_per_second == pytest.approx(SUSTAINED)


def test_a_stall_shows_in_the_report(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", Made(ranks=2, windows=len(STALLED) + 1, noise=0, between=0, warmup=0))
    for file in sorted((path / "attempts" / "1" / "telemetry").iterdir()):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        lines = [
            {**line, "samples": 500, "seconds": seconds} for line, seconds in zip(lines, [60.0, *STALLED], strict=True)
        ]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = read_run(path)
    assert isinstance(run, MeasuredRun)
    assert run.windows.counted == 40
    assert run.measured.samples_per_second == pytest.approx(SUSTAINED)
    assert run.measured.samples_per_second * run.measured.step_seconds == pytest.approx(100)  # samples per step


def test_a_stall_shows_beside_another_run(stalled: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saman.runs.comparison._weights", lambda run: {})
    monkeypatch.setattr("saman.runs.comparison._difference", lambda run, other: (0.0, ""))
    (row,) = compare_runs([stalled]).rows
    assert row.throughput is not None and row.throughput.sustained == pytest.approx(SUSTAINED)


def test_a_window_lasts_as_long_as_its_slowest_rank(tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", Made(ranks=2, windows=12, noise=0, between=0, warmup=0))
    file = path / "attempts" / "1" / "telemetry" / "00001.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**line, "seconds": 2.0}) + "\n" for line in lines))
    run = read_run(path)
    assert isinstance(run, MeasuredRun)
    assert run.measured.samples_per_second == pytest.approx(256 * 10 / 2.0)


@given(some.lists(some.tuples(some.integers(0, 1000), some.floats(0.01, 100.0)), min_size=1))
def test_throughput_does_not_depend_on_how_windows_are_cut(windows: list[tuple[int, float]]) -> None:
    samples, seconds = [count for count, _ in windows], [taken for _, taken in windows]
    whole = throughput([sum(samples)], [sum(seconds)])
    parts = throughput(samples, seconds)
    assert whole is not None and parts is not None
    assert parts.sustained == pytest.approx(whole.sustained)
    assert parts.p5 <= parts.median <= parts.p95


def test_the_examples_in_the_documentation_hold() -> None:
    for module in (saman.runs.telemetry.throughput, saman.runs.telemetry.window):
        found = doctest.testmod(module)
        assert found.attempted > 0 and found.failed == 0, module


def test_no_other_module_divides_samples_by_seconds() -> None:
    root = Path(__file__).resolve().parents[3]
    rooms = [path.resolve() for path in (root / "src" / "saman").iterdir() if path.is_symlink()]
    for file in (file for room in rooms for file in room.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and "seconds" in ast.unparse(node.right):
                assert "samples" not in ast.unparse(node.left) or file.parent.name == "telemetry", file


def test_no_window_is_no_throughput() -> None:
    assert throughput([], []) is None
    assert throughput([5], [0.0]) is None
