"""The names by which people mean runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.experiments import load_experiment
from saman.configs.schemas.experiment import Experiment
from saman.jobs.selection import found_runs
from saman.runs.folder import RunFolder
from saman.runs.studies import find_study


def made(runs: Path, experiment: Experiment, *kinds: str) -> RunFolder:
    """A run that these events have happened to."""
    run = RunFolder.create(runs, experiment)
    for kind in kinds:
        run.append(kind, "test")
    return run


@pytest.fixture
def study(tmp_path: Path) -> tuple[Path, dict[str, RunFolder]]:
    """Two repeats of an experiment and a run of another, with a failed run that a later run has replaced."""
    first = load_experiment("quickstart", ["name=curve"]).experiment
    other = load_experiment("quickstart", ["name=curve", "train.epochs=9"]).experiment
    runs = {
        "replaced": made(tmp_path, first, "failed"),
        "done": made(tmp_path, first, "completed"),
        "again": made(tmp_path, first, "queued"),
        "other": made(tmp_path, other, "failed"),
        "foreign": made(tmp_path, load_experiment("quickstart", ["name=curve", "train.seed=1"]).experiment),
    }
    planned = [{"digest": first.digest()}, {"digest": first.digest()}, {"digest": other.digest()}]
    (tmp_path / "curve" / "study.json").write_text(json.dumps({"schema": 1, "runs": planned}))
    return tmp_path, runs


def test_a_studys_name_means_its_runs_without_those_that_were_replaced(
    study: tuple[Path, dict[str, RunFolder]],
) -> None:
    folder, runs = study
    wanted = [runs[name].id for name in ("done", "again", "other")]
    assert [run.id for run in found_runs(["curve"], folder)] == wanted
    assert [run.id for run in found_runs([str(folder / "curve"), runs["done"].id], folder)] == wanted
    file = folder / "curve.yaml"
    file.write_text("name: curve\nexperiment: quickstart\nscaling: strong\naxes: {ranks: [1, 2]}\n")
    assert [run.id for run in found_runs([str(file)], folder)] == wanted


def test_a_study_without_runs_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "study.json").write_text("{}")
    with pytest.raises(UserError, match="the study empty has no runs"):
        found_runs(["empty"], tmp_path)
    assert find_study("other", tmp_path) is None


def test_an_experiments_name_means_its_newest_run_and_no_name_the_newest_of_all(tmp_path: Path) -> None:
    experiment = load_experiment("quickstart", []).experiment
    runs = [made(tmp_path, experiment) for _ in range(3)]
    assert [run.id for run in found_runs([experiment.name], tmp_path)] == [runs[2].id]
    assert [run.id for run in found_runs(None, tmp_path, newest=2)] == [run.id for run in runs[1:]]
