"""Forecasts keep score: recorded before the run, unchangeable, judged when the run is there, and wider after misses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import Made, curve, write_run, write_runs

from saman.runs.forecast_log import ForecastLog, OutcomeRecord, read_forecasts
from saman.runs.paths.runs_folder import forecast_log
from saman.scaling.analysis.sources import find_source
from saman.scaling.forecasts import ForecastRequest, make_forecasts
from saman.scaling.report.pages import study_page
from saman.scaling.report.writer import html
from saman.scaling.stack.track_record import conformal_widening, track_record
from saman.scaling.stack.weights import shipped_stack
from saman.scaling.track.keeping import read_and_settle, read_log

BASE = Made(windows=8, epochs=1, between=0.005)
LATER = 10**5 + 10**4  # number of a run that starts after any forecast of today


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """A folder of runs on 1, 2 and 4 ranks, with a recorded forecast for 8."""
    write_runs(tmp_path / "made", curve(BASE, (1, 2, 4), 0.02, 2))
    make_forecasts(["made"], tmp_path, ForecastRequest(ranks=(8,)))
    return tmp_path


def _run_the_cell(runs_dir: Path, slower: float = 1.0) -> None:
    (made,) = curve(BASE, (8,), 0.02, 1)
    write_run(
        runs_dir / "made" / "20990101-000000-000-a",
        replace(made, step_seconds=slower * made.step_seconds, nodes=1),
        LATER,
    )


def _settle(runs_dir: Path) -> OutcomeRecord:
    read_and_settle(find_source(["made"], runs_dir), runs_dir)
    (outcome,) = read_log(runs_dir).outcomes
    return outcome


def test_a_forecast_is_recorded_with_what_it_rests_on(runs_dir: Path) -> None:
    (record,) = read_log(runs_dir).forecasts
    assert record.ranks == 8
    assert len(record.runs) == 6
    assert all(len(run.content) >= 16 and run.digest for run in record.runs)
    assert record.weights == shipped_stack().table
    assert record.low < record.median < record.high
    assert set(record.distribution) >= {"weights", "locations", "scales", "degrees"}
    assert record.saman


def test_the_cell_is_scored_when_it_was_run_and_only_once(runs_dir: Path) -> None:
    read_and_settle(find_source(["made"], runs_dir), runs_dir)
    assert not read_log(runs_dir).outcomes
    _run_the_cell(runs_dir)
    outcome = _settle(runs_dir)
    assert outcome.inside
    assert not outcome.short
    assert _settle(runs_dir) == outcome
    analysis = read_and_settle(find_source(["made"], runs_dir), runs_dir)
    assert analysis.track is not None
    assert "inside 1 of 1 intervals" in analysis.track.sentence
    assert "skill over a power law" in analysis.track.sentence
    page = study_page(analysis, "made", "saman report made")
    assert page.kept_score == (analysis.track.sentence,)
    assert analysis.track.sentence in html(replace(page, figures=()))


def test_a_measured_cell_is_no_forecast(runs_dir: Path) -> None:
    _run_the_cell(runs_dir)
    make_forecasts(["made"], runs_dir, ForecastRequest(ranks=(8, 16)))
    assert sorted(record.ranks for record in read_log(runs_dir).forecasts) == [8, 16]


def test_the_same_forecast_made_twice_counts_once(runs_dir: Path) -> None:
    make_forecasts(["made"], runs_dir, ForecastRequest(ranks=(8,)))
    assert len(read_log(runs_dir).forecasts) == 2
    assert len({record.id for record in read_log(runs_dir).forecasts}) == 1
    _run_the_cell(runs_dir)
    _settle(runs_dir)


def test_a_point_that_falls_is_a_missed_shortfall_without_an_alarm(runs_dir: Path) -> None:
    _run_the_cell(runs_dir, slower=3)
    outcome = _settle(runs_dir)
    assert not outcome.inside
    assert outcome.short
    assert not outcome.alarm
    record = track_record(read_log(runs_dir), outcome.machine)
    assert (record.hits, record.misses, record.false_alarms) == (0, 1, 0)
    assert record.widening > 1


def test_intervals_of_the_machine_widen_after_misses(runs_dir: Path) -> None:
    _run_the_cell(runs_dir, slower=3)
    before = read_and_settle(find_source(["made"], runs_dir), runs_dir, (16,)).curves[0].predictions[0]
    after = read_and_settle(find_source(["made"], runs_dir), runs_dir, (16,)).curves[0].predictions[0]
    assert before.low is not None and before.high is not None
    assert after.low is not None and after.high is not None
    assert after.low < before.low
    assert after.high > before.high


def test_a_record_that_was_changed_later_is_noticed(runs_dir: Path) -> None:
    _run_the_cell(runs_dir)
    _settle(runs_dir)
    log = forecast_log(runs_dir)
    assert read_forecasts(log).broken == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    lines[0]["low"] = 0.0
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_forecasts(log).broken > 0
    log.write_text("".join(json.dumps(line) + "\n" for line in lines[1:]))
    assert read_forecasts(log).broken > 0


def test_a_torn_record_is_dropped_and_counted(runs_dir: Path) -> None:
    log = forecast_log(runs_dir)
    whole = log.read_text()
    log.write_text(whole + whole[: len(whole) // 2])
    found = read_forecasts(log)
    assert (len(found.forecasts), found.torn) == (1, 1)


def _outcome(machine: str, inside: bool, alarm: bool = False, short: bool = False) -> OutcomeRecord:
    return OutcomeRecord("f", 0.0, machine, 1.0, ("r",), inside, 0.5, 0.3, 0.5, 0.1, 1.0, short, alarm)


def test_alarms_have_hits_misses_and_false_ones() -> None:
    outcomes = (
        *(_outcome("m", True) for _ in range(9)),
        *(_outcome("m", False, alarm=True, short=True) for _ in range(2)),
        _outcome("m", False, short=True),
        *(_outcome("m", True, alarm=True) for _ in range(2)),
        _outcome("another", False, alarm=True),
    )
    record = track_record(ForecastLog(outcomes=outcomes), "m")
    assert (record.inside, record.intervals) == (11, 14)
    assert (record.hits, record.misses, record.false_alarms) == (2, 1, 2)
    assert record.skill == pytest.approx(0.5)
    assert "inside 11 of 14 intervals" in record.sentence
    assert "+50%" in record.sentence


def test_widths_adapt_to_the_outcomes_of_a_machine() -> None:
    """A machine whose errors are k times the published ones ends with intervals that hold about nine tenths of them."""
    rng = np.random.default_rng(5)
    published = shipped_stack().misses
    assert conformal_widening([], published) == 1
    for factor in (0.6, 2.0, 3.0):
        misses = factor * rng.choice(published, 4000)
        widening = conformal_widening(list(misses[:2000]), published)
        held = float(np.mean(misses[2000:] <= widening * np.quantile(published, 0.9)))
        assert 0.82 <= held <= 0.98, (factor, widening, held)
    assert 1 < conformal_widening([3.0], published) < conformal_widening([3.0] * 5, published)
