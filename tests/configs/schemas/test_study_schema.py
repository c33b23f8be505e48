"""A study is every combination of its axes, written as changes of its base experiment."""

from __future__ import annotations

import json
from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.study import Study


def study(**values: Any) -> Study:
    """A strong-scaling study over ranks, unless ``values`` say otherwise."""
    base = {"name": "curve", "experiment": "quickstart", "scaling": "strong", "axes": {"ranks": [1, 2]}}
    return validated(Study, {**base, **values}, "curve.yaml")


def test_every_combination_of_the_axes_is_planned_once() -> None:
    axes = {"ranks": [1, 2, 4], "strategy": ["horovod", "multi_worker"]}
    found = study(axes=axes).combinations()
    assert len(found) == len({json.dumps(each) for each in found}) == 6
    assert {each["ranks"] for each in found} == {1, 2, 4}


@pytest.mark.parametrize(("scaling", "key"), [("strong", "global_batch_size"), ("weak", "batch_size_per_rank")])
def test_the_axis_of_batch_sizes_means_what_the_scaling_holds_fixed(scaling: str, key: str) -> None:
    made = study(scaling=scaling, axes={"ranks": [1], "batch_size": [64]})
    assert f"train.{key}=64" in made.overrides({"ranks": 1, "batch_size": 64})


def test_overrides_name_the_run_after_the_study_publish_nothing_and_leave_the_ranks_to_the_start() -> None:
    found = study(**{"set": {"micro_batches": 4, "train.epochs": 2}}).overrides({"ranks": 2, "strategy": "horovod"})
    assert sorted(found) == [
        "export=false", 'name="curve"', "publish=null", "train.epochs=2",
        "train.micro_batches=4", 'train.strategy="horovod"',
    ]  # fmt: skip


def test_an_axis_wins_over_a_fixed_change_of_the_same_name() -> None:
    made = study(axes={"ranks": [1], "train.seed": [5]}, **{"set": {"train.seed": 3}})
    assert "train.seed=5" in made.overrides({"ranks": 1, "train.seed": 5})


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"axes": {}}, "axes"),
        ({"axes": {"ranks": []}}, "axes"),
        ({"axes": {"ranks": [1, 2, 1]}}, "axes"),
        ({"axes": {"stages": [1, 0]}}, "axes.stages"),
        ({"axes": {"nodes": ["two"]}}, "axes.nodes"),
        ({"axes": {"strategy": ["single"], "train.strategy": ["horovod"]}}, "axes.strategy"),
        ({"axes": {"ranks": [1], "train.global_batch_size": [64]}}, "axes.train.global_batch_size"),
        ({"axes": {"ranks": [1], "cpus_per_rank": [1, 2]}}, "axes.cpus_per_rank"),
        ({"set": {"name": "other"}}, "set.name"),
        ({"set": {"resources.cpus_per_rank": 2}}, "set.resources.cpus_per_rank"),
        ({"repeats": 0}, "repeats"),
    ],
)
def test_a_study_that_cannot_be_meant_is_refused_at_its_key(values: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError) as refused:
        study(**values)
    assert key in str(refused.value.where)
