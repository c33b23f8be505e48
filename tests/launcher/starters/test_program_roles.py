"""A program of the user's own gets TF_CONFIG with the roles that it asks for, under the same ports on every rank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ranks import Ranks, Seen

from saman.runs.events import State

pytestmark = pytest.mark.ranks

# The port is free for a server that shares it, as TensorFlow's does, and for nobody else.
PROGRAM = """
import json, os, socket
config = json.loads(os.environ["TF_CONFIG"])
task = config["task"]
if task["type"] != "evaluator":
    port = int(config["cluster"][task["type"]][task["index"]].rpartition(":")[2])
    for shared in (False, True):
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
            try:
                server.bind(("", port))
                print("bound", shared, flush=True)
            except OSError:
                pass
print("config", json.dumps(config), os.environ["TF_GRPC_REUSE_PORT"], flush=True)
"""


@pytest.fixture
def ranks(tmp_path: Path) -> Ranks:
    """Ranks in a folder of their own."""
    return Ranks(tmp_path)


def test_every_rank_gets_its_role(ranks: Ranks) -> None:
    seen = Seen()
    outcome = ranks.run(PROGRAM, ranks=4, view=seen, tf_config={"chief": True, "evaluator": True})
    assert outcome.state is State.COMPLETED, outcome.message
    said = {rank: text for rank, text in seen.lines if text.startswith("config ")}
    found = {rank: json.loads(text.removeprefix("config ").removesuffix(" 1")) for rank, text in said.items()}
    assert {rank: (each["task"]["type"], each["task"]["index"]) for rank, each in found.items()} == {
        0: ("chief", 0),
        1: ("worker", 0),
        2: ("worker", 1),
        3: ("evaluator", 0),
    }
    [cluster] = {json.dumps(each["cluster"], sort_keys=True) for each in found.values()}
    assert {job: len(where) for job, where in json.loads(cluster).items()} == {"chief": 1, "worker": 2}
    assert len({where for listed in json.loads(cluster).values() for where in listed}) == 3
    assert not [text for _, text in seen.lines if text == "bound False"]


def test_without_the_key_a_program_gets_no_tf_config(ranks: Ranks) -> None:
    seen = Seen()
    ranks.run("import os; print('TF_CONFIG' in os.environ)", ranks=2, view=seen)
    assert {text for _, text in seen.lines} == {"False"}
