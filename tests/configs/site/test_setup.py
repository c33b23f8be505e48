"""The set-up in a cluster file is typed: a step has one kind, every value one meaning, and none is shell text."""

from __future__ import annotations

from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script

CPU = {"name": "cpu", "cores_per_node": 8}


def cluster(**values: Any) -> Cluster:
    return validated(Cluster, {"name": "site", "partitions": [CPU], **values}, "site.yaml")


@pytest.mark.parametrize(
    ("step", "key"),
    [
        ({}, "setup[0]"),
        ("module load gcc", "setup[0]"),
        ({"shell": "module load gcc"}, "setup[0].shell"),
        ({"virtualenv": "/v", "uv": {"project": "/p"}}, "setup[0]"),
        ({"modules": {"load": ["a:b"]}}, "setup[0].modules.load[0]"),
        ({"modules": {"load": [""]}}, "setup[0].modules.load[0]"),
        ({"collection": {}}, "setup[0].collection.name"),
        ({"source": {"file": "env.sh"}}, "setup[0].source.file"),
        ({"source": {"file": "/site/env.sh", "sets": ["A B"]}}, "setup[0].source.sets[0]"),
        ({"source": {"file": "/site/$PROJECT/env.sh"}}, "setup[0].source.file"),
        ({"conda": {"root": "/c"}}, "setup[0].conda.environment"),
        ({"eessi": {"version": "latest"}}, "setup[0].eessi.version"),
        ({"spack": {"root": "/s", "load": ["--all"]}}, "setup[0].spack.load[0]"),
    ],
)
def test_a_step_that_is_not_one_typed_thing_is_refused_at_its_key(step: object, key: str) -> None:
    with pytest.raises(UserError) as refused:
        cluster(setup=[step])
    assert refused.value.where == f"site.yaml: {key}"


def test_an_experiment_has_no_set_up_of_its_own() -> None:
    names = {*Experiment.model_fields, *Script.model_fields}
    assert not {"setup", "software", "modules", "environment"} & names


@pytest.mark.parametrize(
    ("partitions", "sound"),
    [
        ([{**CPU, "qos": "regular"}, {**CPU, "name": "debug", "qos": "debug"}], True),
        ([{**CPU, "constraint": "cpu"}, {**CPU, "name": "gpu", "constraint": "gpu"}], True),
        ([CPU, {**CPU, "name": "debug"}], False),
    ],
)
def test_entries_that_slurm_cannot_tell_apart_without_a_partition_are_refused(
    partitions: list[dict[str, object]], sound: bool
) -> None:
    values = {"partitions": partitions, "partition": "none"}
    if sound:
        assert [cluster(**values).requested(each) for each in cluster(**values).partitions] == [None, None]
    else:
        with pytest.raises(UserError) as refused:
            cluster(**values)
        assert refused.value.where == "site.yaml: partitions[1]"


def test_a_network_has_one_interface_or_several() -> None:
    assert cluster().network.interfaces == ()
    assert cluster(network={"interface": "ib0"}).network.interfaces == ("ib0",)
    assert cluster(network={"interface": ["hsn0", "hsn1"]}).network.interfaces == ("hsn0", "hsn1")
    with pytest.raises(UserError):
        cluster(network={"interface": ["ib0;ls"]})


STEPS = [
    {"modules": {"load": ["gcc"]}},
    {"collection": {"name": "mine"}},
    {"source": {"file": "/site/env.sh", "sets": ["A"]}},
    {"virtualenv": "/v"},
    {"conda": {"root": "/c", "environment": "tf"}},
    {"pixi": {"manifest": "/p/pixi.toml"}},
    {"uv": {"project": "/p"}},
    {"eessi": {"version": "2023.06"}},
    {"spack": {"root": "/s", "load": ["openmpi"]}},
]


def test_a_cluster_file_written_into_a_run_folder_is_read_back_as_it_was() -> None:
    keys: dict[str, Any] = {
        "setup": STEPS, "partition": "none", "export": "nil", "exclusive": "user", "node_local": "$TMPDIR",
        "stage_out": {"seconds": 9}, "network": {"interface": ["a", "b"]}, "sbatch": ["--nice"],
        "burst_buffer": {"lines": ["#DW jobdw capacity={size}"], "fields": {"size": "1TB"}},
    }  # fmt: skip
    first = cluster(**keys)
    again = validated(Cluster, first.model_dump(mode="json", by_alias=True), "slurm/cluster.yaml")
    assert again == first and [step.kind for step in again.setup] == [next(iter(step)) for step in STEPS]
