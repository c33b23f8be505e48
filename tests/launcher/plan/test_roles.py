"""Parameter servers in a plan: who does what, said before anything starts, and who may be lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.experiments import with_ranks
from saman.configs.problems import validated
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.launcher.node.machine import Node
from saman.launcher.plan.place import place
from saman.launcher.plan.roles import ServingProcesses, roles_note, serving_processes
from saman.launcher.starters.choose import choose
from saman.launcher.starters.start import MachineFacts, RankProgram


def served(ranks: int = 4, nodes: int = 1, **train: Any) -> Experiment:
    """An experiment on parameter servers."""
    values = {
        "name": "served",
        "model": {"build": "mlp"},
        "data": {"source": "digits"},
        "train": {"strategy": "parameter_server", "batch_size_per_rank": 24, **train},
        "resources": {"nodes": nodes, "ranks_per_node": ranks // nodes},
    }
    return validated(Experiment, values, "test")


def test_the_plan_says_the_roles_and_whether_the_steps_are_those_of_one_rank() -> None:
    note = roles_note(served()) or ""
    assert note.startswith("rank 0 coordinates, rank 1 holds the variables, ranks 2–3 work; asynchronous: ")
    assert "not the steps of a single rank" in note
    together = {"servers": 2, "synchronous": True}
    assert roles_note(served(parameter_server=together)) == (
        "rank 0 coordinates, ranks 1–2 hold the variables, rank 3 works; synchronous: the steps are those of a single "
        "rank"
    )
    assert roles_note(served(strategy="horovod")) is None


def test_only_asynchronous_steps_are_outside_the_contract() -> None:
    assert not served().train.keeps_the_steps
    assert served(parameter_server={"synchronous": True}).train.keeps_the_steps
    assert served(strategy="horovod").train.keeps_the_steps
    assert not served(strategy="horovod", exchange={"compression": "fp16"}).train.keeps_the_steps


def test_workers_share_a_step_only_if_it_is_synchronous() -> None:
    assert served().global_batch_size == 24
    assert served(5, parameter_server={"synchronous": True}).global_batch_size == 3 * 24


def test_only_workers_may_be_lost() -> None:
    assert serving_processes(served(5)) == ServingProcesses(frozenset({1}), frozenset({2, 3, 4}), may_be_lost=True)
    assert serving_processes(served(strategy="horovod")) is None


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({"parameter_server": {"servers": 3}}, r"too few ranks .* the servers \(3\) and a worker"),
        ({"ema": 0.9}, "not with asynchronous steps"),
        ({"layer_rates": {"dense*": 0.5}}, "not with asynchronous steps"),
        ({"on_nonfinite": "rollback"}, "not with asynchronous steps"),
        ({"precision": "mixed_float16"}, "not with a parameter server"),
        ({"deterministic": True}, "not with a parameter server"),
        ({"compare_ranks_every": 3}, "not with a parameter server"),
    ],
)
def test_what_servers_cannot_do_is_refused(train: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        served(**train)


@pytest.mark.parametrize(("nodes", "starter"), [(1, "processes"), (2, "steps")])
def test_ranks_start_so_that_a_worker_ends_alone(nodes: int, starter: str) -> None:
    experiment = served(nodes=nodes)
    placement = place(experiment.resources, 1, [Node(f"n{number}", 4) for number in range(nodes)])
    facts = MachineFacts("python", srun="srun", in_allocation=True, site_starter="srun")
    job = RankProgram(Path("run"), 1, ("program",), horovod=False, loses_workers=True)
    assert choose(placement, job, facts)[0] == starter


def script(ranks: int, **roles: Any) -> Script:
    """A program of a user that gets TF_CONFIG."""
    values = {"name": "s", "command": ["python"], "directory": "/", "launch": {"tf_config": roles}}
    return validated(Script, with_ranks(values, ranks), "test")


def test_a_program_of_the_user_gets_the_roles_that_it_asks_for() -> None:
    assert (roles_note(script(3, chief=True, evaluator=True)) or "") == (
        "TF_CONFIG: rank 0 is chief 0, rank 1 is worker 0, rank 2 is evaluator 0"
    )
    with pytest.raises(UserError, match="these roles need 4 ranks"):
        script(3, chief=True, servers=1, evaluator=True)


def test_an_experiment_leaves_tf_config_to_its_strategy() -> None:
    values = served().resolved()
    values["launch"]["tf_config"] = {}
    with pytest.raises(UserError, match="sets TF_CONFIG itself"):
        validated(Experiment, values, "test")
