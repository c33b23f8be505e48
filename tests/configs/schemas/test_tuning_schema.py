"""The schema of tuning studies: short forms, and every mistake with its place."""

from __future__ import annotations

from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.tunings import load_tuning
from saman.configs.problems import validated
from saman.configs.schemas.tuning import Tuning

SOUND: dict[str, Any] = {
    "name": "t",
    "experiment": "quickstart",
    "space": {"train.learning_rate.base": {"low": 0.001, "high": 1.0, "log": True}},
    "objective": {"metric": "val_accuracy", "goal": "maximize"},
    "trials": 10,
}


def study(**changes: Any) -> Tuning:
    return validated(Tuning, {**SOUND, **changes}, "t.yaml")


def mistakes(**changes: Any) -> list[str]:
    with pytest.raises(UserError) as raised:
        study(**changes)
    return [str(error.where).removeprefix("t.yaml: ") for error in (raised.value, *raised.value.others)]


def test_short_forms_mean_their_long_forms() -> None:
    found = study(sampler="random", pruner="asha", space={"model.args.hidden": [[32], [64]]}, confirm={"seeds": 2})
    assert (found.sampler.name, found.pruner.name) == ("random", "asha")
    assert found.space["model.args.hidden"].grid() == [[32], [64]]
    assert found.confirm is not None and found.confirm.seed_list == (1, 2)
    assert [objective.metric for objective in found.objectives] == ["val_accuracy"]


def test_the_resolved_study_is_the_same_study() -> None:
    found = study(pruner={"name": "hyperband"}, confirm={"seeds": [3, 5], "publish": "m"})
    assert validated(Tuning, found.resolved(), "again") == found


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"space": {"train.epochs": {"low": 3, "high": 1}}}, "space.train.epochs"),
        ({"space": {"train.epochs": {"low": 0, "high": 1, "log": True}}}, "space.train.epochs"),
        ({"space": {"train.epochs": {"low": 1, "high": 8, "log": True, "step": 2}}}, "space.train.epochs"),
        ({"space": {"train.epochs": [2, 2]}}, "space.train.epochs.choices"),
        ({"space": {"trian.epochs": [1, 2]}}, "space.trian.epochs"),
        ({"space": {"publish": [None]}}, "space.publish"),
        ({"sampler": "grid"}, "space.train.learning_rate.base"),
        ({"objective": {"metric": "test_accuracy", "goal": "maximize"}}, "objectives"),
        ({"trials": None}, "trials"),
        ({"experiment": None}, "experiment"),
        ({"pruner": "asha", "objective": {"metric": "seconds", "goal": "minimize"}}, "pruner"),
        ({"program": {"command": ["python", "x.py"]}}, "program.command"),
        ({"confirm": {"seeds": [1, 1]}}, "confirm.seeds"),
    ],
)
def test_a_mistake_is_refused_at_its_place(changes: dict[str, Any], where: str) -> None:
    assert where in mistakes(**changes)


def test_several_objectives_cannot_be_pruned() -> None:
    two = [SOUND["objective"], {"metric": "samples_per_second", "goal": "maximize"}]
    changes = {"objective": None, "objectives": two, "pruner": "median"}
    plain = {key: value for key, value in {**SOUND, **changes}.items() if value is not None}
    with pytest.raises(UserError) as raised:
        validated(Tuning, plain, "t.yaml")
    assert str(raised.value.where).endswith("pruner")
    assert len(validated(Tuning, {**plain, "pruner": "none"}, "t.yaml").objectives) == 2


def test_a_grid_ends_after_its_last_point() -> None:
    space = {"train.epochs": {"low": 2, "high": 8, "step": 3}, "train.seed": [1, 2]}
    assert study(space=space, sampler="grid", trials=None).most_trials == 6
    assert study(space=space, sampler="grid", trials=4).most_trials == 4
    assert study(space=space, sampler="grid").most_trials == 6


def test_a_range_of_floats_has_every_step_of_a_grid() -> None:
    found = study(space={"train.optimizer.momentum": {"low": 0.1, "high": 0.3, "step": 0.1}}, sampler="grid")
    assert found.space["train.optimizer.momentum"].grid() == pytest.approx([0.1, 0.2, 0.3])


def test_the_command_line_changes_the_study_and_its_experiment() -> None:
    found, _ = load_tuning("digits", ["trials=3", "train.epochs=2", "pruner=none"])
    assert (found.trials, found.changes["train.epochs"], found.pruner.name) == (3, 2, "none")
