"""Real training on several nodes: whatever starts the ranks, and however often they stop, the weights are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import site, submitted, told, wait_for

from saman.configs.problems import validated
from saman.configs.schemas.experiment import Experiment
from saman.launcher.plan.placement import Placement
from saman.runs import checkpoints
from saman.runs.folder import RunFolder
from saman.slurm.site import client

pytestmark = [pytest.mark.slurm, pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]


SLOW = [2048, 2048]  # layers wide enough that a run takes seconds: it can be stopped on its way


def experiment(
    name: str, nodes: int, ranks_per_node: int, strategy: str = "horovod", hidden: list[int] | None = None
) -> Experiment:
    """The same training on any number of ranks; in float64 with ``hidden`` layers.

    So wide a network amplifies float32's rounding: one rank with two micro-batches ends bit-identical to two ranks,
    and 1e-3 away from one rank with a single micro-batch.
    """
    values = {
        "name": name,
        "model": {"build": "mlp", "args": {"classes": 10, "hidden": hidden or [16]}},
        "data": {"source": "digits", "validation_fraction": 0.2},
        "train": {"strategy": strategy,
                  "parameter_server": {"synchronous": True} if strategy == "parameter_server" else None,
                  "precision": "float64" if hidden else "float32",
                  "telemetry_window_steps": 2,  # a stop request is read at the end of a window
                  "epochs": 4, "global_batch_size": 64, "seed": 7,
                  "optimizer": {"name": "sgd", "momentum": 0.9},
                  "learning_rate": {"base": 0.05, "base_batch_size": 64}},
        "resources": {"nodes": nodes, "ranks_per_node": ranks_per_node, "cpus_per_rank": 1, "memory_per_rank": "1500M",
                      "time_limit": "00:05:00"},
        "publish": {"model": "digits"},
    }  # fmt: skip
    return validated(Experiment, values, "test")


def weights(run: RunFolder) -> dict[str, np.ndarray]:
    """The weights of the newest checkpoint."""
    newest = checkpoints.find(run.checkpoints)
    last = max(newest, key=lambda checkpoint: checkpoint.step)
    return dict(last.read()[1])


@pytest.fixture(scope="module")
def reference(minicluster: Minicluster) -> RunFolder:
    """Horovod over MPI, started by srun, on four nodes; never stopped."""
    run = submitted(experiment("srun-mpi", 4, 1), site(), minicluster.shared).run
    assert wait_for(run, seconds=180).state == "completed", told(run)
    return run


@pytest.fixture(scope="module")
def slow_reference(minicluster: Minicluster) -> RunFolder:
    """The slow training on one rank; never stopped."""
    run = submitted(experiment("undisturbed", 1, 1, "single", SLOW), site(), minicluster.shared).run
    assert wait_for(run, seconds=180).state == "completed", told(run)
    return run


def assert_same_weights(run: RunFolder, reference: RunFolder) -> None:
    """‖w − w_ref‖ / ‖w_ref‖ ≤ 1e-4 (1e-10 in float64) for every tensor, after the same number of steps."""
    mine, theirs = weights(run), weights(reference)
    assert mine.keys() == theirs.keys() and mine
    for name, expected in theirs.items():
        scale = float(np.linalg.norm(expected)) or 1.0
        limit = 1e-10 if mine[name].dtype == np.float64 else 1e-4
        assert float(np.linalg.norm(mine[name] - expected)) / scale <= limit, name


def test_horovod_over_mpi_by_srun_trains_on_four_nodes_and_publishes(
    reference: RunFolder, minicluster: Minicluster
) -> None:
    started = {event.facts["node"] for event in reference.events() if event.kind == "rank_started"}
    assert started == {"node1", "node2", "node3", "node4"}
    assert "--mpi=pmix" in reference.attempt(1).command.read_text()
    until(lambda: (minicluster.shared / "models/digits/1").is_dir(), 20)


def test_a_job_whose_publication_fails_ends_with_1_and_status_shows_why(minicluster: Minicluster) -> None:
    models = minicluster.shared / "not-a-folder"
    models.write_text("a file, where the models should be")
    spec = experiment("unpublished", 1, 1, "single")
    done = submitted(spec, site(), minicluster.shared, models_dir=models)
    status = wait_for(done.run, seconds=180)
    assert (status.state, status.exit_code) == ("completed", 1), told(done.run)
    assert "publishing failed" in status.detail and str(models) in status.detail
    until(lambda: client.show_job(done.job).get("ExitCode") == "1:0", 30)
    assert [event.kind for event in done.run.events()].count("publish_failed") == 1


def test_a_version_that_publish_if_refuses_is_no_failure_of_the_job(minicluster: Minicluster) -> None:
    values = experiment("refused", 1, 1, "single").resolved()
    values["publish"] = {"model": "digits", "if": {"metric": "val_accuracy", "at_least": 1.01}}
    done = submitted(validated(Experiment, values, "test"), site(), minicluster.shared)
    status = wait_for(done.run, seconds=180)
    assert (status.state, status.exit_code) == ("completed", 0), told(done.run)
    assert any(event.kind == "not_published" for event in done.run.events())
    until(lambda: client.show_job(done.job).get("ExitCode") == "0:0", 30)


@pytest.mark.parametrize(
    ("name", "nodes", "ranks_per_node", "strategy", "mpi", "says"),
    [
        ("srun-gloo", 2, 2, "horovod", {"start": "gloo", "pmi": "none"}, "--mpi=none"),
        ("mpirun", 2, 2, "horovod", {"start": "mpirun"}, "mpirun"),
        ("workers", 2, 1, "multi_worker", {"start": "srun"}, "srun"),
        ("servers", 2, 2, "parameter_server", {"start": "srun"}, "srun"),
    ],
)
def test_every_other_start_ends_with_the_same_weights(
    name: str, nodes: int, ranks_per_node: int, strategy: str, mpi: dict[str, Any], says: str,
    reference: RunFolder, minicluster: Minicluster,
) -> None:  # fmt: skip
    spec = experiment(name, nodes, ranks_per_node, strategy)
    warned = site(mpi=mpi, network={"shared_nodes": "warn"})  # multi_worker takes a part of its nodes
    run = submitted(spec, warned, minicluster.shared).run
    assert wait_for(run, seconds=180).state == "completed", told(run)
    assert says in run.attempt(1).command.read_text()
    assert_same_weights(run, reference)


def test_a_run_that_is_signalled_goes_on_in_the_next_attempt_and_ends_with_the_same_weights(
    slow_reference: RunFolder, minicluster: Minicluster
) -> None:
    done = submitted(experiment("requeued", 2, 1, hidden=SLOW), site(), minicluster.shared)
    until(lambda: any(event.kind == "checkpoint" for event in done.run.events()), 120, every=0.05)
    client.ask(["scancel", "--batch", "--signal=USR1", done.job])  # what --signal=B:USR1@… sends before the time limit
    assert wait_for(done.run, seconds=180).state == "completed", told(done.run)
    events = done.run.events()
    stopped = max(event.facts["step"] for event in events if event.kind == "checkpoint" and event.attempt == 1)
    resumed = next(event for event in events if event.kind == "resumed" and event.attempt == 2)
    assert resumed.facts["step"] == stopped < 92
    assert_same_weights(done.run, slow_reference)


@pytest.mark.parametrize(("nodes", "strategy", "start"), [(1, "single", "srun"), (2, "horovod", "mpirun")])
def test_a_preempted_run_checkpoints_on_sigterm_and_goes_on(
    nodes: int, strategy: str, start: str, slow_reference: RunFolder, minicluster: Minicluster
) -> None:
    spec = experiment(f"preempted-{start}", nodes, 1, strategy, SLOW)
    spec = spec.model_copy(update={"launch": spec.launch.model_copy(update={"starter": start})})
    done = submitted(spec, site(), minicluster.shared, partition="scavenge")
    until(lambda: any(event.kind == "checkpoint" for event in done.run.events()), 120, every=0.05)
    urgent = [
        "--account=test",
        "--exclusive",
        "--nodes=4",
        "--partition=urgent",
        "--output=/dev/null",
        "--wrap=sleep 2",
    ]
    assert client.submit(urgent).code == 0
    assert wait_for(done.run, seconds=120).state == "completed", told(done.run)
    assert len(done.run.attempts()) == 2, told(done.run)
    events = done.run.events()
    preempted = [event for event in events if event.kind == "preempted" and event.attempt == 1]
    assert [event.who for event in preempted] == ["supervisor"], told(done.run)
    stopped = max(event.facts["step"] for event in events if event.kind == "checkpoint" and event.attempt == 1)
    resumed = next(event for event in events if event.kind == "resumed" and event.attempt == 2)
    assert resumed.facts["step"] == stopped
    assert_same_weights(done.run, slow_reference)


def test_a_run_that_loses_a_node_goes_on_in_its_job_and_is_requeued_at_full_size(
    slow_reference: RunFolder, minicluster: Minicluster
) -> None:
    spec = experiment("reduced", 2, 1, hidden=SLOW)
    values = {**spec.resolved(), "launch": {"restart": {"backoff": "1s"}}}
    values["train"]["checkpoint"] = {"every_steps": 4}
    done = submitted(validated(Experiment, values, "test"), site(), minicluster.shared)
    until(lambda: _saved(done.run, 1), 120, every=0.05)
    second = next(event.facts["node"] for event in done.run.events() if event.facts.get("rank") == 1)
    try:
        minicluster.down_node(second)
        until(lambda: _saved(done.run, 2), 120, every=0.05)
        assert _ranks(done.run, 2) == 1
        client.ask(["scancel", "--batch", "--signal=USR1", done.job])  # as before the time limit, while reduced
    finally:
        minicluster.up_node(second)
    assert wait_for(done.run, seconds=180).state == "completed", told(done.run)
    ends = [event.kind for event in done.run.events() if event.kind in ("restarting", "preempted", "completed")]
    assert ends == ["restarting", "preempted", "completed"], told(done.run)
    assert _ranks(done.run, 3) == 2  # back at full size
    assert_same_weights(done.run, slow_reference)


def _ranks(run: RunFolder, attempt: int) -> int:
    placement = Placement.read(run.attempt(attempt).placement)
    assert placement is not None
    return placement.size


def _saved(run: RunFolder, attempt: int) -> bool:
    return any(event.kind == "checkpoint" and event.attempt == attempt for event in run.events())
