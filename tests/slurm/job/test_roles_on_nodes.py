"""Users' programs in a job of several nodes get TF_CONFIG with the roles that they ask for."""

from __future__ import annotations

import json

import pytest
from tests.slurm.conftest import Minicluster
from tests.slurm.runs import bash, site, submitted, told, wait_for

from saman.configs.problems import validated
from saman.configs.schemas.script import Script

WRITES = 'printf %s "$TF_CONFIG" >"roles-$SAMAN_PROCESS.json"'


@pytest.mark.slurm
def test_every_process_on_two_nodes_gets_its_role(minicluster: Minicluster) -> None:
    plain = bash("roles", WRITES, minicluster.shared, nodes=2, ranks_per_node=2).resolved()
    roles = {"tf_config": {"chief": True, "servers": 1, "evaluator": True}}
    spec = validated(Script, {**plain, "launch": {**plain["launch"], **roles}}, "test")
    run = submitted(spec, site(network={"shared_nodes": "warn"}), minicluster.shared).run
    assert wait_for(run).state == "completed", told(run)
    found = [json.loads((minicluster.shared / f"roles-{number}.json").read_text()) for number in range(4)]
    assert [each["task"]["type"] for each in found] == ["chief", "ps", "worker", "evaluator"]
    [cluster] = {json.dumps(each["cluster"], sort_keys=True) for each in found}
    assert {job: len(where) for job, where in json.loads(cluster).items()} == {"chief": 1, "ps": 1, "worker": 1}
    assert len({where for listed in json.loads(cluster).values() for where in listed}) == 3
