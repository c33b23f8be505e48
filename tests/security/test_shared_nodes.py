"""``multi_worker``, whose ports ask nobody who they are, does not run where other users are unless the site says so."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.launcher.node.machine import other_users
from saman.launcher.plan.shared_node import check_shared_node
from saman.slurm.submission.planning import plan


def experiment(strategy: str, **resources: Any) -> Experiment:
    values = {
        "name": "shared", "model": {"build": "mlp"}, "data": {"source": "digits"},
        "train": {"global_batch_size": 8, "strategy": strategy},
        "resources": {"nodes": 2, "ranks_per_node": 2, "devices_per_process": 1, **resources},
    }  # fmt: skip
    return validated(Experiment, values, "experiment.yaml")


def cluster(shared_nodes: str = "refuse", whole_nodes: bool = False, exclusive: str | None = None) -> Cluster:
    partition = {"name": "cpu", "cores_per_node": 8, "whole_nodes": whole_nodes}
    network = {"shared_nodes": shared_nodes}
    values = {"name": "site", "partitions": [partition], "network": network, "exclusive": exclusive}
    return validated(Cluster, values, "site.yaml")


def test_multi_worker_on_a_part_of_a_node_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UserError) as refused:
        plan(experiment("multi_worker", cpus_per_rank=2), cluster(), tmp_path)
    assert "shared_nodes" in str(refused.value) and "horovod" in str(refused.value)


def test_the_cluster_file_may_ask_for_a_warning_instead(tmp_path: Path) -> None:
    planned = plan(experiment("multi_worker", cpus_per_rank=2), cluster("warn"), tmp_path)
    assert any(note.startswith("WARNING") for note in planned.notes)


@pytest.mark.parametrize(
    ("spec", "site"),
    [
        (experiment("horovod", cpus_per_rank=2), cluster()),
        (experiment("multi_worker", cpus_per_rank=4), cluster()),
        (experiment("multi_worker", cpus_per_rank=2), cluster(whole_nodes=True)),
        (experiment("multi_worker", cpus_per_rank=2), cluster(exclusive="user")),
    ],
    ids=["horovod", "all cores", "whole nodes", "nodes shared with own jobs only"],
)
def test_what_shares_no_node_or_opens_no_port_is_neither_refused_nor_warned_of(
    spec: Experiment, site: Cluster, tmp_path: Path
) -> None:
    assert not any("WARNING" in note for note in plan(spec, site, tmp_path).notes)


def test_on_a_machine_with_other_users_multi_worker_is_refused_outside_an_allocation() -> None:
    with pytest.raises(UserError) as refused:
        check_shared_node("multi_worker", ["ada", "bo", "cy", "di"], in_allocation=False)
    assert "ada, bo, cy and 1 more" in refused.value.problem and "mirrored" in (refused.value.remedy or "")
    assert "ada" in (check_shared_node("multi_worker", ["ada"], in_allocation=True) or "")
    assert check_shared_node("multi_worker", [], in_allocation=False) is None
    assert check_shared_node("horovod", ["ada"], in_allocation=False) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="starting a process of another user needs root")
def test_other_users_are_the_people_with_processes_here() -> None:
    with subprocess.Popen(["sleep", "60"], user=54321, group=54321, cwd="/") as theirs:
        try:
            time.sleep(0.2)
            assert "user 54321" in other_users()
        finally:
            theirs.kill()
    assert "user 54321" not in other_users()
