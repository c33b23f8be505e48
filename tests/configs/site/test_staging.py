"""`environment: {stage: node}` and `data: {stage: node}` in a cluster file."""

from __future__ import annotations

import pytest

from saman.configs.errors import UserError
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.slurm.submission.job_script import environment_of

PLAIN = {"name": "here", "partitions": [{"name": "main", "cores_per_node": 4}]}


def _cluster(**keys: object) -> Cluster:
    return validated(Cluster, {**PLAIN, **keys}, "here.yaml")


def test_stage_is_no_variable_and_the_variables_beside_it_are_set() -> None:
    cluster = _cluster(environment={"stage": "node", "COLOUR": "red"}, data={"stage": "node"})
    assert cluster.stages_environment
    assert cluster.data.stage == "node"
    assert environment_of(cluster) == {"COLOUR": "red"}
    assert validated(Cluster, cluster.model_dump(mode="json", by_alias=True), "again") == cluster


def test_nothing_is_staged_unless_the_file_says_so() -> None:
    cluster = _cluster(environment={"COLOUR": "red"})
    assert not cluster.stages_environment
    assert cluster.data.stage == "none"
    assert cluster.staging.after_job == "remove"


@pytest.mark.parametrize(
    ("keys", "where", "words"),
    [
        ({"environment": {"stage": "nodes"}}, "environment.stage", "neither node nor none"),
        ({"environment": {"stage": "node"}, "container": {"image": "x.sif"}}, "environment.stage", "the image"),
        ({"staging": {"folder": "scratch"}}, "staging.folder", "absolute"),
        ({"staging": {"folder": "/tmp/$LOCAL"}}, "staging.folder", "only $HOME"),
        ({"data": {"stage": "yes"}}, "data.stage", "node"),
    ],
)
def test_mistakes_are_refused_at_their_key(keys: dict[str, object], where: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        _cluster(**keys)
    assert str(refused.value.where).endswith(where)
    assert words in str(refused.value)
