"""A pipeline over nodes: two stages, two replicas, on two nodes of a real Slurm."""

from __future__ import annotations

import pytest
from tests.slurm.conftest import Minicluster
from tests.slurm.runs import site, submitted, told, wait_for
from tests.slurm.test_training import assert_same_weights, experiment

from saman.configs.schemas.experiment import Experiment
from saman.runs.telemetry.window import read_windows

pytestmark = [pytest.mark.slurm, pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]


def test_two_stages_and_two_replicas_on_two_nodes_end_with_the_weights_of_one_rank(minicluster: Minicluster) -> None:
    values = experiment("two-by-two", 2, 2, "pipeline").resolved()
    values["train"].update(micro_batches=2, pipeline={"stages": 2, "cuts": ["dense_1"]})
    grid = submitted(Experiment.model_validate(values), site(), minicluster.shared).run
    alone = submitted(experiment("alone", 1, 1, "single"), site(), minicluster.shared).run
    for run in (grid, alone):
        assert wait_for(run, seconds=180).state == "completed", told(run)
    assert_same_weights(grid, alone)
    node = {event.facts["rank"]: event.facts["node"] for event in grid.events() if event.kind == "rank_started"}
    assert node[0] == node[1] != node[2] == node[3]  # a replica's stages lie on one node
    for rank in range(4):
        assert {window.stage for window in read_windows(grid, rank)[0]} == {rank % 2}
