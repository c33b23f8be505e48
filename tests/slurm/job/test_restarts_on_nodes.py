"""A run that restarts by itself inside its job: spare nodes, fewer nodes, and what it asks of Slurm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import bash, happened, nodes_lost, script, site, submitted, told, wait_for

from saman.configs.problems import validated
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.runs.events import Event
from saman.runs.ranks.attempt_ranks import read_record
from saman.slurm.job.allocation import Allocation
from saman.slurm.job.decisions import Begin, decide_start
from saman.slurm.job.nodes_left import on_nodes
from saman.slurm.submission import planning

RESTART = {"restart": {"times": 3, "backoff": "1s"}}


def experiment(nodes: int, ranks_per_node: int = 1, **train: Any) -> Experiment:
    values = {
        "name": "x",
        "model": {"build": "mlp"},
        "data": {"source": "digits"},
        "train": {"global_batch_size": 24, **train},
        "resources": {"nodes": nodes, "ranks_per_node": ranks_per_node},
    }
    return validated(Experiment, values, "test")


def restarting(spec: Script) -> Script:
    return validated(Script, {**spec.resolved(), "launch": RESTART}, "test")


@pytest.mark.parametrize(
    ("nodes", "left", "train", "expected"),
    [
        (4, 5, {}, 4),
        (4, 3, {}, 3),
        (4, 2, {"global_batch_size": 20}, 2),
        (4, 3, {"global_batch_size": 20}, 2),  # 20 examples do not divide over 3 ranks
        (4, 3, {"strategy": "pipeline", "pipeline": {"stages": 2}}, 2),  # 3 ranks are no multiple of 2 stages
        (2, 1, {"strategy": "pipeline", "pipeline": {"stages": 2}}, None),
        (4, 3, {"global_batch_size": None, "batch_size_per_rank": 6}, 3),
    ],
)
def test_an_experiment_takes_the_same_steps_on_as_many_nodes_as_its_batch_divides_over(
    nodes: int, left: int, train: dict[str, Any], expected: int | None
) -> None:
    spec = experiment(nodes, **train)
    fitting = on_nodes(spec, left)
    assert (fitting.resources.nodes if fitting else None) == expected
    if isinstance(fitting, Experiment):
        assert fitting.global_batch_size == spec.global_batch_size


def test_a_users_program_needs_all_of_its_nodes() -> None:
    spec = script("x", ["true"], Path("/"), nodes=2)
    assert on_nodes(spec, 2) is spec and on_nodes(spec, 1) is None


def test_an_allocation_without_its_lost_nodes_keeps_the_cores_of_the_others() -> None:
    here = Allocation("7", "7", ("n1", "n2", "n3"), (4, 8, 16), 0, 0).without({"n2"})
    assert (here.nodes, here.cores) == (("n1", "n3"), (4, 16))


def test_only_a_run_that_restarts_survives_the_loss_of_a_node_of_its_job() -> None:
    plain = bash("x", "true", Path("/"), nodes=2, spare_nodes=1)
    texts = [planning.plan(spec, site(), Path("runs"), "main", {}).text for spec in (plain, restarting(plain))]
    assert ["--no-kill" in text for text in texts] == [False, True]
    assert all("--nodes=3" in text for text in texts)


def test_restarts_inside_a_job_do_not_use_up_its_requeues() -> None:
    events = [Event("queued", "submitter", 0.0, facts={"job": "1"})]
    for attempt in range(1, 5):
        events += [Event("attempt_started", "supervisor", attempt, attempt)]
        events += [Event("restarting", "supervisor", attempt + 0.5, attempt)] if attempt < 4 else []
    assert decide_start(events, 4, 2, ["n1"]).begin is Begin.GO
    again = [*events, Event("preempted", "job", 9.0, 4), Event("attempt_started", "supervisor", 10.0, 5)]
    assert decide_start(again, 5, 2, ["n1"]).begin is Begin.USED_UP


@pytest.mark.slurm
def test_a_spare_node_takes_the_place_of_a_node_that_dies_without_going_back_to_the_queue(
    minicluster: Minicluster,
) -> None:
    text = "echo begun; [ $SAMAN_ATTEMPT -gt 1 ] && exit 0; sleep 300"
    spec = restarting(bash("spared", text, minicluster.shared, nodes=2, spare_nodes=1))
    done = submitted(spec, site(), minicluster.shared)
    until(lambda: happened(done.run, [("rank_started", 1)] * 2), 60)
    node = (read_record(done.run.attempt(1), 1) or pytest.fail("no record")).node
    try:
        minicluster.down_node(node)
        assert wait_for(done.run).state == "completed", told(done.run)
    finally:
        minicluster.up_node(node)
    assert nodes_lost(done.run) == 1 and happened(done.run, [("restarting", 1)])
    assert not happened(done.run, [("preempted", 1)]), told(done.run)
    used = {(read_record(done.run.attempt(2), rank) or pytest.fail("no record")).node for rank in (0, 1)}
    assert len(used) == 2 and node not in used


@pytest.mark.slurm
def test_a_job_whose_supervisor_is_killed_goes_on_with_another(minicluster: Minicluster) -> None:
    kill = 'pkill -KILL -f "saman.slurm.job $SAMAN_RUN"'  # the nodes are this machine's
    text = f"[ $SAMAN_ATTEMPT -gt 1 ] && exit 0; sleep 1; [ $SAMAN_FIRST_RANK = 0 ] && {kill}; sleep 300"
    done = submitted(bash("orphaned", text, minicluster.shared, nodes=2), site(), minicluster.shared)
    assert wait_for(done.run).state == "completed", told(done.run)
    assert len(done.run.attempts()) == 2 and happened(done.run, [("preempted", 1)])


@pytest.mark.slurm
def test_a_rank_that_dies_on_a_healthy_node_is_restarted_there(minicluster: Minicluster) -> None:
    text = "[ $SAMAN_ATTEMPT -gt 1 ] && exit 0; [ $SAMAN_FIRST_RANK = 1 ] && kill -KILL $PPID; sleep 300"
    done = submitted(restarting(bash("again", text, minicluster.shared, nodes=2)), site(), minicluster.shared)
    assert wait_for(done.run).state == "completed", told(done.run)
    assert nodes_lost(done.run) == 0 and happened(done.run, [("restarting", 1)])
