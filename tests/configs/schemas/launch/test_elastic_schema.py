"""``launch.elastic`` is refused wherever a run could not go on without a rank."""

from __future__ import annotations

from typing import Any

import pytest

from saman.configs.problems import Problems
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script


def experiment(elastic: dict[str, int], strategy: str = "horovod", batch: int = 32, **more: Any) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "e",
            "model": {"build": "mlp"},
            "data": {"source": "digits"},
            "train": {"strategy": strategy, "global_batch_size": batch, "epochs": 1, "learning_rate": 0.1},
            "resources": {"ranks_per_node": 4, **more.pop("resources", {})},
            "launch": {"elastic": elastic, **more},
        }
    )


def places(error: pytest.ExceptionInfo[Exception]) -> str:
    return str(error.value)


def test_a_run_may_lose_ranks_down_to_its_minimum() -> None:
    elastic = experiment({"min": 2, "max": 4}).launch.elastic
    assert elastic is not None
    assert (elastic.min, elastic.max) == (2, 4)


def test_runs_are_not_elastic_unless_they_ask() -> None:
    assert Experiment.model_fields["launch"].annotation is not None
    plain = experiment({"min": 2, "max": 4}).resolved()
    del plain["launch"]["elastic"]
    assert Experiment.model_validate(plain).launch.elastic is None


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"elastic": {"min": 2, "max": 4}, "strategy": "multi_worker"}, "launch.elastic"),
        ({"elastic": {"min": 2, "max": 3}}, "launch.elastic.max"),
        ({"elastic": {"min": 2, "max": 4}, "with": "mpirun"}, "launch.with"),
        ({"elastic": {"min": 2, "max": 4}, "resources": {"nodes": 2}}, "launch.elastic.max"),
        ({"elastic": {"min": 5, "max": 4}}, "elastic"),
        ({"elastic": {"min": 2, "max": 4}, "batch": 3}, "global_batch_size"),
    ],
)
def test_what_cannot_be_elastic_is_refused_at_its_key(values: dict[str, Any], place: str) -> None:
    with pytest.raises((Problems, ValueError)) as error:
        experiment(**values)
    assert place in places(error)


def test_an_elastic_run_may_span_nodes() -> None:
    assert experiment({"min": 4, "max": 8}, resources={"nodes": 2}).resources.ranks == 8


def test_warm_spares_of_a_run_on_several_nodes_need_spare_nodes() -> None:
    limits = {"min": 4, "max": 8, "warm_spares": 4}
    assert experiment(limits, resources={"nodes": 2, "spare_nodes": 1}).launch.elastic
    with pytest.raises((Problems, ValueError)) as error:
        experiment({**limits, "warm_spares": 5}, resources={"nodes": 2, "spare_nodes": 1})
    assert "launch.elastic.warm_spares" in places(error)


def test_a_slow_rank_is_excluded_from_an_elastic_run_only() -> None:
    values = experiment({"min": 2, "max": 4}, on_straggler="exclude").resolved()
    values["launch"]["elastic"] = None
    with pytest.raises(ValueError, match="launch.elastic"):
        Experiment.model_validate(values)


def test_the_batch_need_not_divide_by_every_number_of_ranks() -> None:
    assert experiment({"min": 2, "max": 4}, batch=50).global_batch_size == 50


def test_a_program_of_the_users_own_is_not_elastic() -> None:
    with pytest.raises(ValueError, match="elastic"):
        Script.model_validate(
            {"name": "s", "command": ["x"], "directory": "/", "launch": {"elastic": {"min": 1, "max": 1}}}
        )
