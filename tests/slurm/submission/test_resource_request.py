"""The cheapest partition that fits is chosen; if none fits, every partition says why."""

from __future__ import annotations

from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.script import Script
from saman.slurm.submission.resource_request import ResourceRequest, choose_partition


def cluster(**keys: Any) -> Cluster:
    partitions = [
        {"name": "cheap", "cores_per_node": 8, "max_nodes": 2, "max_time": "01:00:00", "memory_per_node": "16G",
         "cost_per_node_hour": 0.5},
        {"name": "large", "cores_per_node": 64, "max_time": "2-00:00:00", "gpus_per_node": 4, "cost_per_node_hour": 4},
    ]  # fmt: skip
    return validated(Cluster, {"name": "site", "partitions": partitions, **keys}, "site.yaml")


def run(**resources: Any) -> Script:
    return validated(Script, {"name": "x", "command": ["true"], "directory": "/", "resources": resources}, "x")


def test_the_cheapest_partition_that_fits_is_taken_and_the_choice_explained() -> None:
    choice = choose_partition(cluster(), run(nodes=2, ranks_per_node=4))
    assert choice.partition.name == "cheap" and choice.cost == pytest.approx(1.0)
    assert choice.request == ResourceRequest(
        nodes=2,
        tasks_per_node=4,
        cpus_per_task=2,
        gpus_per_node=0,
        memory_bytes=16 << 30,
        seconds=3600,
        whole_nodes=False,
    )
    assert any("large would cost" in reason for reason in choice.reasons)


def test_if_no_partition_fits_each_says_why() -> None:
    with pytest.raises(UserError) as caught:
        choose_partition(cluster(), run(nodes=3, ranks_per_node=1, gpus_per_rank=5, time_limit="3-00:00:00"))
    text = str(caught.value)
    assert "partition cheap: 3 nodes requested, at most 2 allowed" in text
    assert "5 GPUs per node requested, a node has 4" in text and "at most 2-00:00:00 allowed" in text


def test_ranks_on_gpus_get_the_cores_that_belong_to_them() -> None:
    choice = choose_partition(cluster(), run(nodes=1, ranks_per_node=2, gpus_per_rank=1))
    assert (choice.request.cpus_per_task, choice.request.gpus_per_node) == (16, 2)
