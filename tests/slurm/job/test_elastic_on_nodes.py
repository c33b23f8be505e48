"""An elastic run on nodes that die: on a spare node, on fewer, at full size when one returns or after the requeue."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.job.test_restarts_on_nodes import experiment
from tests.slurm.runs import happened, site, submitted, told

from saman.configs.problems import validated
from saman.configs.schemas.experiment import Experiment
from saman.jobs.cancel import cancel_runs
from saman.launcher.plan.placement import Placement
from saman.launcher.supervision.progress import AttemptWatch
from saman.runs import checkpoints
from saman.runs.elastic.world_events import WorldFormed
from saman.runs.folder import RunFolder
from saman.runs.ranks.heartbeats import Phase
from saman.slurm.job.nodes_left import on_nodes
from saman.slurm.site import client
from saman.slurm.submission import planning


def elastic(nodes: int = 2, spare: int = 1) -> Experiment:
    """A training without end of small steps, one rank per node."""
    values = experiment(nodes).resolved()
    values["resources"] |= {"spare_nodes": spare, "cpus_per_rank": 1, "memory_per_rank": "1500M"}
    values["resources"]["time_limit"] = "00:30:00"
    values["launch"]["elastic"] = {"min": 1, "max": nodes, "warm_spares": spare}
    values["train"] |= {"precision": "float64", "epochs": 100_000, "validate_every_epochs": 1000, "learning_rate": 1e-4}
    values["train"] |= {"checkpoint": {"every_epochs": 1000}, "telemetry_window_steps": 10}
    return validated(Experiment, values, "test")


def test_the_job_of_an_elastic_run_goes_on_without_a_node() -> None:
    assert "--no-kill" in planning.plan(elastic(), site(), Path("runs"), "main", {}).text


def test_an_elastic_run_begins_again_on_fewer_nodes_with_fewer_ranks_at_most() -> None:
    fitting = on_nodes(elastic(nodes=4), 3)
    assert isinstance(fitting, Experiment) and fitting.launch.elastic is not None
    assert (fitting.launch.elastic.min, fitting.launch.elastic.max) == (1, 3)


def worlds(run: RunFolder, attempt: int) -> list[WorldFormed]:
    """The worlds of an attempt that have taken a step."""
    events = (event for event in run.events() if event.attempt == attempt)
    found = (world for event in events if (world := WorldFormed.from_event(event)) is not None)
    return [world for world in found if "stepped" in world.seconds]


def node_of(run: RunFolder, rank: int) -> str:
    """The node on which a rank runs now."""
    placement = Placement.read(run.attempts()[-1].placement)
    assert placement is not None
    return placement.processes[rank].node


def waits(run: RunFolder, rank: int) -> bool:
    """Whether a process is ready and waits for a place."""
    placement = Placement.read(run.attempts()[-1].placement)
    assert placement is not None
    beat = AttemptWatch(run.attempts()[-1], placement, once=True).beats().get(rank)
    return beat is not None and beat.phase == Phase.WAIT


def replacements() -> list[str]:
    """The jobs in the queue that hold a node for a run, or wait for one."""
    return [job.id for job in client.queue().values() if job.name.endswith("-replacement") and not job.state.ended]


@pytest.mark.slurm
@pytest.mark.ranks
@pytest.mark.tensorflow
@pytest.mark.slow
def test_an_elastic_run_loses_nodes_is_back_at_full_size_when_one_returns_and_is_requeued_while_reduced(
    minicluster: Minicluster,
) -> None:
    done = submitted(elastic(), site(), minicluster.shared, exclude=["node4"])  # for replacements, too
    run, dead = done.run, list[str]()

    def sizes(*wanted: int) -> None:
        until(lambda: [world.size for world in worlds(run, 1)] == list(wanted), 240, told=lambda: told(run))

    def lose_a_rank() -> None:  # never on the first node, where the supervisor runs
        dead.append(node_of(run, max(worlds(run, 1)[-1].slots)))
        minicluster.down_node(dead[-1])

    try:
        sizes(2)
        (spare,) = {0, 1, 2} - set(worlds(run, 1)[0].slots)  # the last to be ready
        until(lambda: waits(run, spare), 240, told=lambda: told(run))
        lose_a_rank()
        sizes(2, 2)  # the warm spare was ready
        lose_a_rank()
        sizes(2, 2, 1)
        until(replacements, 60, told=lambda: told(run))
        minicluster.up_node(dead.pop(0))
        sizes(2, 2, 1, 2)  # full size, in the same attempt
        lose_a_rank()
        sizes(2, 2, 1, 2, 1)
        client.ask(["scancel", "--batch", "--signal=USR1", done.job])  # as before the time limit, while reduced
        until(lambda: any(event.kind == "preempted" for event in run.events()), 120, told=lambda: told(run))
        until(lambda: not replacements(), 60, told=lambda: told(run))
        while dead:
            minicluster.up_node(dead.pop())
        until(lambda: happened(run, [("attempt_started", 2)]), 120, told=lambda: told(run))
    finally:
        list(cancel_runs([run]))
        for node in dead:
            minicluster.up_node(node)
    assert [event.facts["ranks"] for event in run.events() if event.kind == "attempt_started"] == [2, 2]  # full size
    reached = [world.step for world in worlds(run, 1)]
    assert reached == sorted(set(reached)) and checkpoints.find(run.checkpoints)[-1].step > reached[-1]


@pytest.mark.slurm
@pytest.mark.ranks
@pytest.mark.tensorflow
@pytest.mark.slow
def test_a_job_that_is_cancelled_while_its_run_is_reduced_has_time_to_record_its_end(minicluster: Minicluster) -> None:
    run, job = (done := submitted(elastic(spare=0), site(), minicluster.shared)).run, done.job
    until(lambda: [world.size for world in worlds(run, 1)] == [2], 240, told=lambda: told(run))
    lost = node_of(run, 1)
    try:
        minicluster.down_node(lost)
        until(lambda: [world.size for world in worlds(run, 1)][:2] == [2, 1], 240, told=lambda: told(run))
        client.scancel([job])
        until(lambda: client.queue()[job].state.ended, 60, told=lambda: told(run))
    finally:
        minicluster.up_node(lost)
    ends = [(event.kind, event.who) for event in run.events() if event.kind in ("preempted", "cancelled")]
    assert ends == [("preempted", "supervisor"), ("cancelled", "job")], told(run)
    assert checkpoints.find(run.checkpoints)
