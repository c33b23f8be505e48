"""Any experiment loads as a pipeline of 1 replica; the user's ranks and stages come first."""

from __future__ import annotations

import pytest

from saman.configs.loading.experiments import load_experiment
from saman.configs.loading.pipelines import load_as_pipeline


@pytest.mark.parametrize(("stages", "expected"), [(None, 2), (3, 3)])
def test_an_experiment_of_another_strategy_becomes_a_pipeline_of_one_replica(stages: int | None, expected: int) -> None:
    assert load_experiment("quickstart").experiment.train.strategy != "pipeline"
    found = load_as_pipeline("quickstart", stages=stages).experiment
    assert found.train.strategy == "pipeline"
    assert found.train.pipeline is not None
    assert found.train.pipeline.stages == expected
    assert (found.resources.nodes, found.resources.ranks_per_node, found.replicas) == (1, expected, 1)


def test_ranks_of_the_user_give_more_replicas() -> None:
    assert load_as_pipeline("quickstart", stages=2, ranks=4).experiment.replicas == 2


def test_a_pipeline_keeps_its_own_stages_and_ranks() -> None:
    own = ["train.strategy=pipeline", "train.pipeline.stages=2", "resources.ranks_per_node=4"]
    found = load_as_pipeline("quickstart", own).experiment
    assert (found.resources.ranks_per_node, found.replicas) == (4, 2)
