"""The best trial is trained again with several seeds; the best of these runs is published with its evidence."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tests.registry.registry_kit import fake_export
from tests.tuning.kit import PretendedPlace, killer

from saman.registry.model_card import render_card
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.tuning import campaign
from saman.tuning.confirmation import mean_interval
from saman.tuning.plan import make_plan
from saman.tuning.study import TuningResult, read_study, run_study

pytestmark = pytest.mark.tune

STUDY = """
name: digits-tuning
experiment: quickstart
set: {train.strategy: single, resources.ranks_per_node: 1, train.epochs: 9}
space: {train.learning_rate.base: {low: 0.001, high: 1.0, log: true}}
objective: {metric: val_accuracy, goal: maximize}
sampler: random
trials: 8
concurrency: 2
confirm: {seeds: [11, 12, 13], publish: tuned, if: {metric: val_accuracy, at_least: BOUND}}
"""


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign.time, "sleep", lambda seconds: None)


def accuracy(run: RunFolder, epoch: int) -> dict[str, float]:
    """Best at a rate of 0.1; a seed moves it a little."""
    train = run.experiment().train
    value = 0.9 - 0.1 * abs(math.log10(train.learning_rate.base) + 1) + (train.seed - 12) / 1000
    return {"val_accuracy": value - 0.5 / epoch}


def export(run: RunFolder) -> None:
    if run.experiment().export:
        fake_export(run, seed=run.experiment().train.seed)


def tune(folder: Path, place: PretendedPlace, bound: float = 0.1, **changes: Any) -> TuningResult:
    (folder / "study.yaml").write_text(STUDY.replace("BOUND", str(bound)))
    plan = make_plan(str(folder / "study.yaml"), [f"{key}={value}" for key, value in changes.items()])
    return run_study(plan, place, place.runs_dir, folder / "models")


def test_the_best_seed_is_published_with_the_evidence_of_the_search(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs", killer(0.3), accuracy, export)
    result = tune(tmp_path, place)
    assert result.best is not None and result.confirmed is not None
    assert [each.seed for each in result.confirmed.seeds] == [11, 12, 13]
    published = result.confirmed.published
    assert (published.model, published.version) == ("tuned", 1)
    run = next(run for run in find_runs(place.runs_dir) if run.id == published.run)
    assert run.experiment().train.seed == 13  # the best of the three
    assert run.experiment().train.learning_rate.base == result.best.settings["train.learning_rate.base"]

    import json

    assert published.path is not None
    evidence = json.loads((published.path / "assets.extra" / "saman.json").read_text())["tuning"]
    assert (evidence["study"], evidence["trial"]) == ("digits-tuning", result.best.number)
    assert evidence["trials"] == {"complete": 8}
    values = [each["value"] for each in evidence["seeds"]]
    assert evidence["mean"] == pytest.approx(sum(values) / 3)
    assert evidence["low"] < evidence["mean"] < evidence["high"]
    assert evidence["searched"]["sampler"] == {"name": "random"}
    assert "digits-tuning, trial" in render_card(tmp_path / "models", "tuned")


def test_a_second_call_trains_and_publishes_nothing_new(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs", metrics=accuracy, at_end=export)
    first = tune(tmp_path, place)
    starts = place.starts
    second = tune(tmp_path, place)
    assert place.starts == starts == 8 + 3
    assert second.confirmed == first.confirmed
    looked = read_study(second.plan, place, place.runs_dir).confirmed
    assert first.confirmed is not None and looked is not None and looked.seeds == first.confirmed.seeds
    assert (looked.published.model, looked.published.version) == ("tuned", 1)


def test_a_seed_that_misses_the_condition_is_not_published(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs", metrics=accuracy, at_end=export)
    result = tune(tmp_path, place, bound=0.99)
    assert result.confirmed is not None and result.confirmed.published.version is None
    assert "at least 0.99" in result.confirmed.published.reason
    assert not (tmp_path / "models").exists()


def test_a_seed_that_fails_leaves_the_others(tmp_path: Path) -> None:
    def fate(key: str, epoch: int, start: int) -> str | None:
        return "fail" if key.endswith("seed-13") else None

    result = tune(tmp_path, PretendedPlace(tmp_path / "runs", fate, accuracy, export))
    assert result.confirmed is not None and result.confirmed.published.version == 1
    assert [each.value is None for each in result.confirmed.seeds] == [False, False, True]


def test_the_interval_of_a_mean_is_students() -> None:
    low, high = mean_interval([1.0, 2.0, 3.0, 4.0])  # t(0.975, 3) = 3.1824, s = 1.29099
    assert low is not None and high is not None
    assert (low, high) == (pytest.approx(2.5 - 2.0542, abs=1e-3), pytest.approx(2.5 + 2.0542, abs=1e-3))
    assert mean_interval([1.0]) == (None, None)
