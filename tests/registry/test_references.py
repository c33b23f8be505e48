"""Names of published versions in an experiment become paths before ranks start: ranks do not read the registry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from registry_kit import published

from saman.api.study_plans import prepare_study
from saman.api.workflow_plans import plan_workflow
from saman.configs.errors import UserError
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.registry.references import with_versions
from saman.slurm.submission.run_submission import SubmissionOptions
from saman.tuning.places.here import Here
from saman.tuning.plan import RunSpec


def experiment(publish: Any = None, reference: str | None = None, warm_start: Any = None) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "named",
            "model": {"build": "mlp"},
            "data": {"source": "digits", "checks": {"reference": reference}},
            "train": {"global_batch_size": 8, "warm_start": warm_start},
            "publish": publish,
        }
    )


def test_a_warm_start_and_the_reference_of_drift_find_published_versions(tmp_path: Path) -> None:
    first, second = published(tmp_path, seed=1), published(tmp_path, seed=2)
    name, models = "digits", tmp_path / "models"
    found = with_versions(experiment({"model": name}, "published", f"{name}:{first.number}"), models)
    assert found.train.warm_start is not None and found.train.warm_start.is_file
    assert Path(found.train.warm_start.source) == first.path / "assets.extra" / "model.keras"
    assert found.data.checks.reference == str(second.path / "assets.extra" / "saman.json")
    assert Experiment.model_validate(found.resolved()) == found
    assert with_versions(found, models) == found


def test_before_the_first_version_there_is_nothing_to_compare_with(tmp_path: Path) -> None:
    found = with_versions(experiment({"model": "birds"}, "published"), tmp_path)
    assert found.data.checks.reference is None


def test_what_cannot_be_found_is_refused(tmp_path: Path) -> None:
    for wrong, problem in [
        (experiment(None, "published"), "publishes no model"),
        (experiment(None, None, "birds:3"), "birds"),
    ]:
        with pytest.raises(UserError, match=problem):
            with_versions(wrong, tmp_path)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A version to start from, and an experiment beside it that names it."""
    published(tmp_path, seed=1)
    values = experiment(warm_start="digits:1").resolved()
    (tmp_path / "base.yaml").write_text(json.dumps(values))
    return tmp_path


def starts_from_the_version(found: Experiment | Script, folder: Path) -> bool:
    assert isinstance(found, Experiment) and found.train.warm_start is not None
    return Path(found.train.warm_start.source) == folder / "models" / "digits" / "1" / "assets.extra" / "model.keras"


def test_the_runs_of_a_study_start_from_a_version(base: Path) -> None:
    study = {"name": "warm", "experiment": str(base / "base.yaml"), "scaling": "strong", "axes": {"ranks": [1, 2]}}
    (base / "study.yaml").write_text(json.dumps(study))
    plan = prepare_study(str(base / "study.yaml"), base / "runs", models_dir=base / "models").plan
    assert plan.runs and all(starts_from_the_version(run.loaded.experiment, base) for run in plan.runs)


def test_the_trials_of_a_tuning_start_from_a_version(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Here, "restart", lambda self, run: None)
    spec = experiment(warm_start="digits:1")
    [run] = Here(base / "runs", base / "models").start([RunSpec("1", spec)])
    assert starts_from_the_version(run.experiment(), base)


def test_the_steps_of_a_workflow_start_from_a_version(base: Path) -> None:
    (base / "flow.yaml").write_text(json.dumps({"name": "flow", "steps": {"train": {"experiment": "base.yaml"}}}))
    partition = {"name": "cpu", "cores_per_node": 8, "max_nodes": 4, "max_time": "1-00:00:00"}
    cluster = Cluster.model_validate({"name": "site", "partitions": [partition]})
    options = SubmissionOptions(runs_dir=base / "runs", models_dir=base / "models")
    plan = plan_workflow(base / "flow.yaml", cluster, options)
    assert starts_from_the_version(plan.steps[0].plans[0].spec, base)
