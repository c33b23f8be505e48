"""Runs of different versions of saman are one series: a key that an older version could not name has its default."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import Made, curve, write_run, write_runs

from saman.runs.forecast_log import append_forecasts
from saman.runs.paths.runs_folder import forecast_log
from saman.scaling.analysis.sources import find_source
from saman.scaling.forecasts import ForecastRequest, make_forecasts
from saman.scaling.track.keeping import read_and_settle, read_log

LATER = 10**5 + 10**4  # number of a run that starts after any forecast of today
# As a run of an early version recorded them: no callbacks, metrics, frozen layers, deterministic steps or seed checks.
OLD_TRAIN = {
    "micro_batches": 1,
    "pipeline": None,
    "loss": "sparse_categorical_crossentropy",
    "from_logits": False,
    "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": False},
    "learning_rate": {"base": 0.05, "base_batch_size": None, "scale": "none", "warmup_epochs": 0.0},
    "checkpoint": {"every_steps": None, "every_epochs": 1, "keep": 3},
    "early_stop": None,
    "validate_every_epochs": 1,
    "telemetry_window_steps": 10,
    "calibrate_exchange": 0,
}
# The same as a later version records them, with keys that came since.
NEW_TRAIN = {
    **OLD_TRAIN,
    "optimizer": {"name": "sgd", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0},
    "learning_rate": {**OLD_TRAIN["learning_rate"], "schedule": {"name": "constant"}},  # type: ignore[dict-item]
    "checkpoint": {"every": None, "mtbf": "1d", "every_steps": None, "every_epochs": 1, "keep": 3},
    "exchange": {},
    "callbacks": [],
    "freeze": [],
    "layer_rates": {},
    "metrics": [],
    "ema": None,
    "deterministic": False,
    "jit_compile": False,
    "clip_gradients": None,
    "on_nonfinite": "report",
}
OLD = Made(windows=8, epochs=1, between=0.005, settings=tuple(OLD_TRAIN.items()))


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """Old runs on 1, 2 and 4 ranks, with a recorded forecast for 8."""
    write_runs(tmp_path / "made", curve(OLD, (1, 2, 4), 0.02, 2))
    make_forecasts(["made"], tmp_path, ForecastRequest(ranks=(8,)))
    return tmp_path


def _run_the_cell(runs_dir: Path, **changes: object) -> None:
    """Run 8 ranks as a later version does."""
    (made,) = curve(OLD, (8,), 0.02, 1)
    settings = {**NEW_TRAIN, **changes}
    path = runs_dir / "made" / "20990101-000000-000-a"
    write_run(path, replace(made, settings=tuple(settings.items()), nodes=1), LATER)
    file = path / "experiment.yaml"
    file.write_text(json.dumps({**json.loads(file.read_text()), "tracking": None, "notify": None}))


def test_a_run_of_a_later_version_answers_the_forecast_from_runs_of_an_earlier_one(runs_dir: Path) -> None:
    _run_the_cell(runs_dir)
    analysis = read_and_settle(find_source(["made"], runs_dir), runs_dir)
    assert [[point.ranks for point in each.points] for each in analysis.curves] == [[1, 2, 4, 8]]
    (outcome,) = read_log(runs_dir).outcomes
    assert outcome.runs == ("20990101-000000-000-a",)


def test_a_later_setting_that_is_not_at_its_default_is_another_series(runs_dir: Path) -> None:
    _run_the_cell(runs_dir, deterministic=True)
    analysis = read_and_settle(find_source(["made"], runs_dir), runs_dir)
    assert [[point.ranks for point in each.points] for each in analysis.curves] == [[1, 2, 4], [8]]
    assert [each.label for each in analysis.curves] == ["horovod deterministic False", "horovod deterministic True"]
    assert not read_log(runs_dir).outcomes


def test_a_forecast_whose_cell_an_earlier_version_named_is_found_by_its_runs(tmp_path: Path) -> None:
    write_runs(tmp_path / "made", curve(OLD, (1, 2, 4), 0.02, 2))
    make_forecasts(["made"], tmp_path, ForecastRequest(ranks=(8,)))
    (record,) = read_log(tmp_path).forecasts
    forecast_log(tmp_path).unlink()
    append_forecasts(forecast_log(tmp_path), [replace(record, cell="hash of all settings that there were")])
    _run_the_cell(tmp_path)
    read_and_settle(find_source(["made"], tmp_path), tmp_path)
    assert [outcome.forecast for outcome in read_log(tmp_path).outcomes] == [record.id]
    assert not read_log(tmp_path).broken


def test_the_cell_of_a_forecast_does_not_depend_on_the_version_that_wrote_the_runs(runs_dir: Path) -> None:
    """So it is found even where the runs behind it are gone."""
    newer = runs_dir / "newer"
    made = replace(OLD, settings=tuple(NEW_TRAIN.items()))
    write_runs(newer / "made", curve(made, (1, 2, 4), 0.02, 2))
    make_forecasts(["made"], newer, ForecastRequest(ranks=(8,)))
    assert read_log(newer).forecasts[0].cell == read_log(runs_dir).forecasts[0].cell
