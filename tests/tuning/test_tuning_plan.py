"""What a study runs: trials without publication, seeds with an export, and metrics that exist."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kit import plan

from saman.api.tunings import prepare_tuning
from saman.configs.errors import UserError
from saman.configs.loading.files import SHIPPED
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.tuning.plan import make_plan

RATE = {"train.learning_rate.base": 0.25}


def test_a_trial_neither_exports_nor_publishes_and_a_seed_exports() -> None:
    plan = make_plan("digits")
    trial, seed = plan.trial(4, RATE), plan.with_seed(4, RATE, 11)
    assert isinstance(trial.spec, Experiment) and isinstance(seed.spec, Experiment)
    assert (trial.key, seed.key) == ("4", "4/seed-11")
    assert (trial.spec.export, seed.spec.export) == (False, True)
    assert trial.spec.publish is None and seed.spec.publish is None  # the study publishes the best
    assert trial.spec.train.learning_rate.base == seed.spec.train.learning_rate.base == 0.25
    assert (trial.spec.train.seed, seed.spec.train.seed) == (7, 11)
    assert trial.spec.train.epochs == plan.epochs == 9


def test_the_size_of_a_model_needs_its_export() -> None:
    plan = make_plan("digits", ["objective={metric: parameters, goal: minimize}", "pruner=none"])
    spec = plan.trial(0, RATE).spec
    assert isinstance(spec, Experiment) and spec.export


def test_a_metric_that_the_experiment_does_not_compute_is_refused() -> None:
    with pytest.raises(UserError, match="val_acuracy"):
        make_plan("digits", ["objective={metric: val_acuracy, goal: maximize}"])


def test_a_model_to_publish_needs_a_name(tmp_path: Path) -> None:
    shipped = (SHIPPED / "experiments" / "quickstart.yaml").read_text().splitlines()
    unnamed = [line for line in shipped if not line.startswith("publish")]
    (tmp_path / "unnamed.yaml").write_text("\n".join(unnamed))
    with pytest.raises(UserError, match="has no name"):
        make_plan("digits", [f"experiment={tmp_path / 'unnamed.yaml'}", "confirm={seeds: 2}"])


def test_a_program_beside_the_study_runs_from_any_folder(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("")
    (tmp_path / "s.yaml").write_text(
        "{name: s, space: {lr: {low: 0.1, high: 1.0}}, objective: {metric: loss, goal: minimize}, trials: 2,"
        " program: {command: [python, train.py, '--lr={lr}'], launch: {directory: run}}}"
    )
    spec = make_plan(str(tmp_path / "s.yaml")).trial(0, {"lr": 0.5}).spec
    assert isinstance(spec, Script)
    assert spec.command == ["python", str(tmp_path / "train.py"), "--lr=0.5"]


@pytest.mark.parametrize(
    ("space", "place", "problem"),
    [
        ({"train.nosuch": [1, 2]}, "space.train.nosuch", "unknown key"),
        ({"train.epochs": {"low": 0, "high": 3}}, "space.train.epochs", "0 is not greater than 0"),
        ({"train.strategy": ["horovod", "nosuch"]}, "space.train.strategy", "nosuch"),
        ({"train.epochs": [1], "train.seed\n#SBATCH": [1]}, "space.train.seed", "unknown key"),
    ],
)
def test_keys_and_values_that_make_no_experiment_are_refused_before_the_first_trial(
    tmp_path: Path, space: dict[str, object], place: str, problem: str
) -> None:
    file = tmp_path / "t.yaml"
    objective = {"metric": "val_accuracy", "goal": "maximize"}
    file.write_text(
        json.dumps({"name": "t", "experiment": "quickstart", "space": space, "objective": objective, "trials": 2})
    )
    with pytest.raises(UserError, match=problem) as refused:
        make_plan(str(file))
    assert place in str(refused.value.where)


def test_a_mistake_in_a_range_is_not_reported_as_missing_choices() -> None:
    with pytest.raises(UserError) as refused:
        plan(Path("/nonexistent"), space={"x": {"low": 3, "high": 1}, "y": [1]}, program=None, experiment="quickstart")
    assert "space.x: low (3) is above high (1)" in str(refused.value)
    assert "choices" not in str(refused.value)


def test_options_of_a_cluster_are_refused_on_this_machine(tmp_path: Path) -> None:
    for options in ({"partition": "gpu"}, {"exclude": ("n1",)}):
        with pytest.raises(UserError, match="this machine"):
            prepare_tuning("digits", tmp_path, **options)  # type: ignore[arg-type]


def test_a_partition_that_the_cluster_lacks_is_refused_before_the_first_trial(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no partition 'nosuch'"):
        prepare_tuning("digits", tmp_path, cluster="lab-server", partition="nosuch")
    assert not list(tmp_path.iterdir())
