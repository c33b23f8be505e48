"""Goodput under failures: the formula agrees with played failures, the costs come from the runs' own records."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from saman.configs.schemas.script import Script
from saman.runs.folder import RunFolder
from saman.runs.records.summary import Summary
from saman.runs.telemetry.goodput import Goodput
from saman.scaling.simulation.resilience import MeasuredCosts, expected_goodput, forecast_resilience, measure_costs


def played(interval: float, checkpoint: float, restart: float, mtbf: float) -> float:
    """Kept seconds ÷ wall seconds; failures may hit restarts too."""
    rng = random.Random(11)
    wall = kept = 0.0
    while kept < 2000 * mtbf:
        until = rng.expovariate(1 / mtbf)
        whole = int(until // (interval + checkpoint))
        wall, kept = wall + until, kept + whole * interval
        while (until := rng.expovariate(1 / mtbf)) < restart:
            wall += until
        wall += restart
    return kept / wall


@pytest.mark.parametrize("case", [(600.0, 5.0, 60.0, 3600.0), (10.0, 1.0, 8.0, 60.0), (300.0, 2.0, 30.0, 86400.0)])
def test_expected_goodput_is_that_of_played_failures(case: tuple[float, float, float, float]) -> None:
    assert expected_goodput(*case) == pytest.approx(played(*case), abs=0.02)


def test_a_run_that_fails_faster_than_it_restarts_keeps_nothing() -> None:
    assert expected_goodput(10.0, 1.0, 1e6, 1.0) == 0.0


def run_with(folder: Path, waited: float, goodput: Goodput) -> RunFolder:
    run = RunFolder.create(folder, Script(name="x", command=["true"], directory="/"))
    run.append("checkpoint", "rank 0", 1, step=1, path="p", seconds=0.5, waited_seconds=waited)
    run.write_summary(Summary("completed", more={"goodput": goodput.to_json()}))
    return run


def test_costs_come_from_the_runs_that_failed_where_some_did(tmp_path: Path) -> None:
    calm = run_with(tmp_path, 0.15, Goodput(0.9, 100, 0.1, 20.0, start_seconds=7.0))
    disturbed = run_with(tmp_path, 0.25, Goodput(0.5, 100, 0.1, 90.0, 4, restart_seconds=30.0, waiting_seconds=6.0))
    costs = measure_costs([calm, disturbed])
    assert costs is not None and (costs.restart, costs.failures, costs.runs) == (9.0, 4, 2)
    assert costs.checkpoint == pytest.approx(0.2 + 0.05)
    alone = measure_costs([calm])
    assert alone is not None and (alone.restart, alone.failures) == (7.0, 0)
    empty = RunFolder.create(tmp_path, Script(name="y", command=["true"], directory="/"))
    assert measure_costs([empty]) is None


def test_more_nodes_fail_more_often_and_save_more_often() -> None:
    costs = MeasuredCosts(checkpoint=2.0, write=5.0, restart=60.0, failures=3, runs=1)
    few, many = forecast_resilience(costs, 30 * 86400.0, (8, 8192), ranks_per_node=8)
    assert (few.nodes, many.nodes) == (1, 1024)
    assert many.mtbf_seconds == pytest.approx(few.mtbf_seconds / 1024)
    assert many.interval_seconds < few.interval_seconds / 25
    assert few.goodput > many.goodput > 0.9
