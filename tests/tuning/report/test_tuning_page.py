"""The page of a study: every figure with data draws, importance follows the goal, nothing is claimed too early."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from tests.tuning.kit import PretendedPlace, killer, plan

from saman.runs.folder import RunFolder
from saman.tuning import campaign
from saman.tuning.report.figures import make_figures
from saman.tuning.report.page import make_page, write_page
from saman.tuning.study import TuningResult, run_study

pytestmark = pytest.mark.tune
SPACE = {
    "rate": {"low": 0.001, "high": 1.0, "log": True},
    "momentum": {"low": 0.0, "high": 0.9},
    "hidden": [[32], [64], "wide"],
}
PROGRAM = {"command": ["true", "{rate}", "{momentum}", "{hidden}"], "epochs": 9}


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def metrics(run: RunFolder, epoch: int) -> dict[str, float]:
    """Only the rate matters to the accuracy, only the momentum to the speed."""
    rate, momentum = map(float, run.script().command[1:3])
    return {"accuracy": 1 - (math.log10(rate) + 1) ** 2, "speed": 100 * momentum}


def searched(folder: Path, **changes: Any) -> TuningResult:
    place = PretendedPlace(folder / "runs", killer(0.2), metrics)
    asked = {"space": SPACE, "program": PROGRAM, "trials": 25, **changes}
    return run_study(plan(folder, **asked), place, place.runs_dir, folder / "models")


ACCURACY, SPEED = ({"metric": name, "goal": "maximize"} for name in ("accuracy", "speed"))


def test_every_figure_of_one_objective_draws(tmp_path: Path) -> None:
    import vl_convert

    result = searched(tmp_path, objective=ACCURACY, pruner="median")
    page = make_page(result, tmp_path)
    assert [figure.name for figure in page.figures] == ["history", "curves", "importance", "parallel", "slices"]
    assert all("mark-symbol" in text or "mark-line" in text or "mark-rect" in text
               for text in (vl_convert.vegalite_to_svg(figure.spec) for figure in page.figures))  # fmt: skip


def test_importance_follows_the_goal_of_each_objective(tmp_path: Path) -> None:
    result = searched(tmp_path, objective=None, objectives=[ACCURACY, SPEED])
    accuracy, speed = result.importances
    assert max(accuracy, key=accuracy.__getitem__) == "rate"
    assert max(speed, key=speed.__getitem__) == "momentum"
    names = [figure.name for figure in make_figures(result.plan.study, result.trials, result.importances)]
    assert names == ["pareto", "history", "importance", "parallel", "slices"]


def test_the_page_escapes_values_and_its_table_holds_every_trial(tmp_path: Path) -> None:
    result = searched(tmp_path, objective=ACCURACY, space={**SPACE, "hidden": ["<script>alert(1)</script>", "b"]})
    page = write_page(result, tmp_path / "page", papers=False)
    text = page.read_text()
    assert "<script>alert(1)" not in text
    lines = (tmp_path / "page" / "tables" / "trials.csv").read_text().splitlines()
    assert len(lines) == 26


def test_a_study_without_a_complete_trial_says_so(tmp_path: Path) -> None:
    result = searched(tmp_path, objective=ACCURACY, trials=1)
    empty = TuningResult(result.plan, (), None, None, 0.0, ({},))
    page = make_page(empty, tmp_path)
    assert page.figures == () and "No trial is complete yet." in page.opening
    json.dumps(empty.to_json())
