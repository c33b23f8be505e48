"""Pipelines in reports and predictions: stages, the grid of stages × replicas, and the published speed-ups."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from staged import MIB, Split, write_pipeline, write_pipelines
from synthetic import Made, write_runs

from saman.configs.errors import UserError
from saman.runs.telemetry.throughput import chief_throughput
from saman.runs.telemetry.window import Window
from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.findings import FindingKind
from saman.scaling.analysis.results import read_run, read_runs
from saman.scaling.analysis.run_values import MeasuredRun
from saman.scaling.models.published import SHIPPED
from saman.scaling.pipelines.published_check import (
    PublishedSpeedup,
    calibrate_pipelines,
    check_pipelines,
    check_stages,
    pipeline_totals,
    read_pipelines,
)
from saman.scaling.report.figures.figures import make_figures
from saman.scaling.report.opening import opening
from saman.scaling.report.pages import study_page
from saman.scaling.report.stage_rows import grid_rows, stage_rows
from saman.scaling.report.writer import TableKind, html

ONE = Split(stages=1, per_pass=(0.006,), per_example=(0.0024,), transfer_per_pass=0.0)
TWO = Split()


def _grid(repeats: int = 1) -> list[Split]:
    whole = [replace(ONE, replicas=n, gradient_bytes=16e6) for n in (1, 2, 4)]
    return [*whole, TWO, replace(TWO, replicas=2)] * repeats


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """One and two stages on 1, 2 and 4 ranks, six repeats."""
    return analyse(read_runs(write_pipelines(tmp_path_factory.mktemp("grid") / "made", _grid(6))))


# ---- stages ----------------------------------------------------------------------------------------------------


def test_each_stage_is_told_with_what_it_takes_waits_hands_over_and_holds(grid: Analysis) -> None:
    rows = {(row.ranks, row.stage): row for row in stage_rows(grid.curves) if row.stages == 2}
    assert set(rows) == {(2, 0), (2, 1), (4, 0), (4, 1)}
    for (ranks, stage), row in rows.items():
        made = replace(TWO, replicas=ranks // 2)
        waiting = made.passes - made.busy(stage) - made.transfer_seconds
        assert row.busy_seconds.value == pytest.approx(made.busy(stage), rel=0.01)
        assert row.busy_seconds_per_micro_batch.value == pytest.approx(made.busy(stage) / 4, rel=0.01)
        assert row.bubble_share.value == pytest.approx(waiting / made.step, rel=0.02)
        assert row.transfer_seconds.value == pytest.approx(0.002, rel=0.01)
        assert row.exchange_seconds.value == pytest.approx(made.exchange, rel=0.01)
        assert row.busy_seconds.low < row.busy_seconds.value < row.busy_seconds.high
        assert row.memory_over_start_bytes is not None
        assert row.memory_over_start_bytes.value == (90 + 20 * stage) * MIB
        assert row.memory_against_predicted == pytest.approx(0.2 * stage - 0.1)
        assert row.layers == ("from layer_1" if stage else "up to layer_1")


def test_a_stage_that_waits_for_the_others_in_its_exchange_does_not_exchange_longer(tmp_path: Path) -> None:
    run = read_run(write_pipeline(tmp_path / "run", replace(TWO, replicas=2)))
    assert isinstance(run, MeasuredRun)
    lines = (run.facts.path / "attempts/1/telemetry/00001.jsonl").read_text().splitlines()
    raw = json.loads(lines[3])["exchange_seconds"] / TWO.window_steps
    first, last = (stage for stage in run.measured.stages if stage.rank in (0, 1))
    assert raw > 1.5 * float(last.exchange[2])
    assert last.exchange == pytest.approx(first.exchange)
    assert run.measured.exchange_seconds == pytest.approx(replace(TWO, replicas=2).exchange, rel=0.02)


def test_a_pipelines_throughput_while_it_runs_counts_replicas_and_not_ranks() -> None:
    window = Window(0, 1, 4, 10, 10, 1, 320, 0.5, 0.0, stage=0, stages=2)
    measured = chief_throughput([window])
    assert measured is not None and measured.sustained == 2 * 320 / 0.5


def test_the_page_and_the_tables_show_stages_and_the_grid(grid: Analysis) -> None:
    page = study_page(grid, "made", "saman report made")
    kinds = [table.kind for table in page.tables]
    assert kinds[:5] == [TableKind.BOUNDS, TableKind.SETUP, TableKind.POINTS, TableKind.GRID, TableKind.STAGES]
    assert TableKind.PIPELINE_PREDICTIONS in kinds
    assert {"stages", "grid"} <= {figure.name for figure in page.figures}
    assert page.data["stages"].height == 3 + 2 * 2
    assert page.data["grid"].height == 5
    assert "Pipeline stages" in html(page)
    assert isinstance(page.data["pipeline_predictions"], pl.DataFrame)


def test_where_stages_wait_most_the_opening_says_so(tmp_path: Path) -> None:
    uneven = replace(TWO, per_example=(0.0001, 0.003))
    runs = [*[ONE] * 2, *[uneven] * 2]
    *_, limits = opening(analyse(read_runs(write_pipelines(tmp_path / "r", runs))))
    assert "bound by stages that wait for each other" in limits


def test_stages_that_share_a_process_are_not_told_apart_and_that_is_said(tmp_path: Path) -> None:
    settings = (("pipeline", {"stages": 2, "devices": "local"}), ("micro_batches", 4))
    found = analyse(
        read_runs(write_runs(tmp_path, [Made(strategy="pipeline", ranks=2, processes=1, settings=settings)]))
    )
    assert stage_rows(found.curves) == []
    assert any(finding.kind is FindingKind.STAGES_UNKNOWN and finding.note for finding in found.findings)
    assert "stages" not in {figure.name for figure in make_figures(found)}


# ---- the grid --------------------------------------------------------------------------------------------------


def test_the_grid_has_speedups_over_the_baseline_with_intervals(grid: Analysis) -> None:
    rows = {(row.stages, row.replicas): row for row in grid_rows(grid.curves)}
    assert set(rows) == {(1, 1), (1, 2), (1, 4), (2, 1), (2, 2)}
    base = _grid()[0]
    for made in _grid():
        row = rows[made.stages, made.replicas]
        assert row.baseline == "pipeline stages 1 on 1 rank"
        assert row.speedup is not None
        assert row.speedup.value == pytest.approx(made.rate / base.rate, rel=0.01)
        assert row.speedup.interval is not None or made == base
        assert row.samples_per_second.interval is not None
        assert row.samples_per_second.interval.low <= row.samples_per_second.value
        assert row.samples_per_second.value <= row.samples_per_second.interval.high


def test_different_numbers_of_stages_are_not_joined_into_one_curve(grid: Analysis) -> None:
    assert [curve.label for curve in grid.drawable] == ["pipeline stages 1", "pipeline stages 2"]
    assert all(len({run.facts.stage_count for run in curve.group.runs}) == 1 for curve in grid.drawable)


def test_single_is_the_baseline_of_a_pipeline(tmp_path: Path) -> None:
    single = Made(strategy="single", settings=(("pipeline", None), ("micro_batches", 4)), between=0.0)
    write_runs(tmp_path / "a", [single] * 2)
    paths = [*sorted((tmp_path / "a").iterdir()), *write_pipelines(tmp_path / "b", [TWO] * 2)]
    found = analyse(read_runs(paths))
    pipeline = next(curve for curve in found.curves if curve.group.strategy == "pipeline")
    assert pipeline.label == "pipeline stages 2"
    assert pipeline.baseline is not None
    assert pipeline.baseline.label == "single on 1 rank"
    assert pipeline.points[0].speedup is not None


# ---- commands ----------------------------------------------------------------------------------------------------


def _command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "saman", *words], cwd=cwd, capture_output=True, text=True)


def test_the_commands_know_pipelines(tmp_path: Path) -> None:
    write_pipelines(tmp_path / "runs/made", _grid(2))
    words = ("predict", "made", "--ranks", "4,8", "--micro-batches", "8", "--stages", "2,3", "--json")
    done = _command(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["pipelines"]
    assert [row["ranks"] for row in told["predictions"]] == [4, 8]
    assert any("3 stages" in text for text in told["left_out"])
    assert "published predictions" in told["intervals"]
    shown = _command("predict", "made", "--ranks", "4", cwd=tmp_path)
    assert "each measured cell from the others" in " ".join(shown.stdout.split())
    assert json.loads(done.stdout)["predictions"] == []  # a pipeline has a single predictor
    assert _command("predict", "made", "--ranks", "4", "--stages", "two", cwd=tmp_path).returncode == 2
    reported = _command("report", "made", "-o", "out", "--no-papers", "--json", cwd=tmp_path)
    tables = json.loads(reported.stdout)["tables"]
    assert len(tables["stages"]) == 7
    assert len(tables["grid"]) == 5
    assert pl.read_csv(tmp_path / "out/tables/stages.csv").height == 7


def test_stages_are_not_asked_of_runs_that_have_none(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs/made", [Made(ranks=n) for n in (1, 2, 4)])
    refused = _command("predict", "made", "--ranks", "8", "--stages", "2", cwd=tmp_path)
    assert refused.returncode == 2
    assert "no completed run is a pipeline" in refused.stderr


# ---- published -------------------------------------------------------------------------------------------------


def _tables() -> list[Path]:
    folder = os.environ.get("SAMAN_TEST_DATA")
    given = [Path(folder) / "published-scaling.json"] if folder else []
    return [SHIPPED, *(path for path in given if path.is_file())]


@pytest.mark.parametrize("table", _tables(), ids=lambda path: path.name)
def test_published_pipelines_are_predicted_within_the_stated_error(table: Path) -> None:
    total = pipeline_totals(check_pipelines(read_pipelines(table)))
    assert total["torchgpipe"]["predictions"] == total["GPipe"]["predictions"] == 8
    assert total["torchgpipe"]["median_abs_error"] <= 0.08
    assert total["torchgpipe"]["largest_abs_error"] <= 0.13
    assert total["GPipe"]["median_abs_error"] <= 0.05
    learned = [check for check in check_pipelines(read_pipelines(table)) if check.learned_from]
    assert max(abs(check.error) for check in learned if check.source == "GPipe") <= 0.06
    assert max(abs(check.error) for check in check_stages(read_pipelines(table))) <= 0.33


def test_a_published_row_does_not_move_its_own_prediction() -> None:
    rows = read_pipelines()
    for changed in rows:
        other = [replace(row, speedup=2 * row.speedup) if row == changed else row for row in rows]
        for before, after in zip(check_pipelines(rows), check_pipelines(other), strict=True):
            if (before.source, before.stages, before.micro_batches) == (
                changed.source,
                changed.stages,
                changed.micro_batches,
            ):
                assert after.predicted == before.predicted


def test_intervals_of_pipelines_hold_most_of_what_they_come_from() -> None:
    known = calibrate_pipelines()
    assert (known.errors, known.sources) == (24, 2)
    assert 0.05 < known.micro_batches < known.stages < 0.3


def test_validate_prints_the_pipelines_and_refuses_rows_that_are_none(tmp_path: Path) -> None:
    table = tmp_path / "t.json"
    table.write_text(json.dumps({**json.loads(SHIPPED.read_text("utf-8")), "data_parallel": []}))
    command = [sys.executable, "-m", "saman.scaling.validate", str(table), "--json", "--only"]
    told: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)["pipelines"]
    assert len(told["checks"]) == 16
    assert set(told["totals"]) == {"torchgpipe", "GPipe"}
    table.write_text(
        json.dumps({"data_parallel": [], "pipeline_amoebanet": {"rows": [{"n": 2, "m": 4, "speedup": 0}]}})
    )
    with pytest.raises(UserError, match="is not a speed-up"):
        read_pipelines(table)
    table.write_text(json.dumps({"data_parallel": []}))
    assert read_pipelines(table) == []
    assert check_pipelines([PublishedSpeedup("a", 2, 4, 1.5)]) == []
