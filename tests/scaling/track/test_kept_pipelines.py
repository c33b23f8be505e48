"""Forecasts of pipelines keep score like those of curves: recorded before the run, judged by runs that came later."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from timesliced import Machine, Program, write_cells

from saman.runs.forecast_log import Predictor, read_forecasts
from saman.runs.paths.runs_folder import forecast_log
from saman.scaling.analysis.sources import find_source
from saman.scaling.forecasts import ForecastRequest, make_forecasts
from saman.scaling.report.pages import study_page
from saman.scaling.track.keeping import read_and_settle, read_log

ROOMY = Machine(cores=8)
CELLS = [
    Program(stages=stages, replicas=replicas, micro_batches=4) for stages, replicas in ((1, 1), (1, 2), (2, 1), (2, 2))
]
AHEAD = Program(stages=2, replicas=4, micro_batches=4)
REQUEST = ForecastRequest(ranks=(8,), micro_batches=(4,), stages=(2,))
LATER = 10**5 + 10**4  # number of a run that starts after any forecast of today


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """A folder with a grid of pipelines, and a recorded forecast of four replicas of two stages."""
    write_cells(tmp_path / "grid", CELLS, ROOMY)
    make_forecasts(["grid"], tmp_path, REQUEST)
    return tmp_path


def test_a_forecast_of_a_pipeline_is_recorded_with_what_it_rests_on(runs_dir: Path) -> None:
    (record,) = read_log(runs_dir).forecasts
    assert record.predictor is Predictor.PIPELINES
    assert (record.stages, record.micro_batches, record.ranks) == (2, 4, 8)
    assert record.rule == "power law of the replicas"
    assert len(record.runs) == len(CELLS)
    assert record.low < record.median < record.high
    found = make_forecasts(["grid"], runs_dir, REQUEST).pipelines.predictions
    assert (record.low, record.high) == pytest.approx((found[0].low, found[0].high), rel=1e-6)


def test_the_later_run_of_the_pipeline_is_scored_once_and_the_report_says_so(runs_dir: Path) -> None:
    source = find_source(["grid"], runs_dir)
    read_and_settle(source, runs_dir)
    assert not read_log(runs_dir).outcomes
    write_cells(runs_dir / "grid", [AHEAD], ROOMY, first=LATER)
    analysis = read_and_settle(find_source(["grid"], runs_dir), runs_dir)
    (outcome,) = read_log(runs_dir).outcomes
    assert outcome.predictor is Predictor.PIPELINES
    assert outcome.inside
    assert analysis.track is not None
    assert analysis.pipeline_track is not None
    assert (analysis.track.intervals, analysis.pipeline_track.intervals) == (0, 1)
    again = read_and_settle(find_source(["grid"], runs_dir), runs_dir)
    assert read_log(runs_dir).outcomes == (outcome,)
    notes = [table.note for table in study_page(again, "grid", "saman report grid").tables]
    assert any("Forecasts of pipelines on this machine: inside 1 of 1 intervals" in note for note in notes)


def test_other_pipelines_do_not_answer_a_forecast(runs_dir: Path) -> None:
    others = [replace(AHEAD, micro_batches=8), replace(AHEAD, stages=1, replicas=8), replace(AHEAD, batch=2 * 256)]
    write_cells(runs_dir / "grid", others, ROOMY, first=LATER)
    read_and_settle(find_source(["grid"], runs_dir), runs_dir)
    assert not read_log(runs_dir).outcomes


def test_a_slow_pipeline_widens_the_next_intervals_of_pipelines_alone(runs_dir: Path) -> None:
    write_cells(runs_dir / "grid", [replace(AHEAD, work=4 * AHEAD.work)], ROOMY, first=LATER)
    analysis = read_and_settle(find_source(["grid"], runs_dir), runs_dir)
    assert analysis.track is not None
    assert analysis.pipeline_track is not None
    assert analysis.pipeline_track.misses == 1
    assert analysis.pipeline_track.widening > 1
    assert analysis.track.widening == 1


def test_records_of_the_version_before_are_still_read(runs_dir: Path) -> None:
    log = forecast_log(runs_dir)
    (line,) = (json.loads(text) for text in log.read_text().splitlines())
    for name in ("predictor", "rule", "stages", "micro_batches"):
        del line[name]
    line |= {"schema": 1, "distribution": {**line["distribution"], "degrees": 4.0}}
    log.write_text(json.dumps(line) + "\n")
    (record,) = read_forecasts(log).forecasts
    assert record.predictor is Predictor.LAWS
    assert record.stages is None
