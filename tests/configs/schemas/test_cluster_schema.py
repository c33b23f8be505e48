"""A cluster file cannot put text where Slurm or a shell would read it as something else."""

from __future__ import annotations

from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.configs.site.sbatch_options import OWN_OPTIONS

CPU = {"name": "cpu", "cores_per_node": 8}


def cluster(**values: Any) -> Cluster:
    """A site with a partition of CPUs and these values."""
    return validated(Cluster, {"name": "site", "partitions": [CPU], **values}, "site.yaml")


def mistakes(**values: Any) -> list[UserError]:
    """Every mistake of a cluster file."""
    with pytest.raises(UserError) as refused:
        cluster(**values)
    return [refused.value, *refused.value.others]


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"account": "a b"}, "account"),
        ({"account": "x\n#SBATCH --uid=root"}, "account"),
        ({"qos": "high;rm"}, "qos"),
        ({"constraint": "a100 nvme"}, "constraint"),
        ({"network": {"interface": "ib0 ; ls"}}, "network.interface"),
        ({"sbatch": ["--mail-user=a b\\"]}, "sbatch"),
        ({"sbatch": ["mail-type=END"]}, "sbatch"),
        ({"sbatch": ['--comment="x"']}, "sbatch"),
        ({"software": {"virtualenv": "--help"}}, "software.virtualenv"),
        ({"software": {"modules": {"load": ["-f"]}}}, "software.modules.load"),
        ({"container": {"image": "a.sif", "binds": ["/a:/b,/c:/d"]}}, "container.binds"),
        ({"container": {"image": "a.sif", "binds": ["/a:/b:ro:x"]}}, "container.binds"),
        ({"environment": {"A B": "1"}}, "environment"),
        ({"environment": {"A": "x\0y"}}, "environment"),
        ({"partitions": [{**CPU, "name": "cpu\n"}]}, "partitions[0].name"),
    ],
)
def test_text_that_something_else_would_read_is_refused_at_its_key(values: dict[str, Any], key: str) -> None:
    [mistake] = mistakes(**values)
    assert key in str(mistake.where)


@pytest.mark.parametrize("option", sorted(OWN_OPTIONS))
def test_an_option_that_saman_sets_cannot_be_set_twice(option: str) -> None:
    [mistake] = mistakes(sbatch=[f"--{option}=x"])
    assert option in mistake.problem


def test_an_extra_line_that_contradicts_nothing_is_taken() -> None:
    lines = ["--mail-type=END", "--mail-user=ada@example.org", "--oversubscribe"]
    assert cluster(sbatch=lines).sbatch == lines


def test_every_mistake_between_keys_is_told_at_once() -> None:
    gpu = {"name": "gpu", "cores_per_node": 8, "gpus_per_node": 4}
    found = mistakes(partitions=[CPU, CPU, gpu], gpus={"typed": True})
    assert [str(mistake.where).split(": ")[-1] for mistake in found] == ["partitions", "partitions[2].gpu_type"]


def test_two_environments_for_the_job_are_refused() -> None:
    [mistake] = mistakes(software={"virtualenv": "/v", "conda": {"root": "/c", "environment": "tf"}})
    assert "conda" in str(mistake.where)


def test_limits_are_read_in_bytes_and_seconds() -> None:
    [partition] = cluster(partitions=[{**CPU, "memory_per_node": "2G", "max_time": "1-00:00:30"}]).partitions
    assert (partition.memory_bytes, partition.max_seconds) == (2 * 2**30, 86430)
    assert (cluster().partitions[0].memory_bytes, cluster().partitions[0].max_seconds) == (None, None)


def test_an_unknown_partition_gets_the_nearest_spelling() -> None:
    assert cluster().partition("cpu").cores_per_node == 8
    with pytest.raises(UserError) as refused:
        cluster().partition("cpus")
    assert "cpu" in str(refused.value.remedy)
