"""What saman autotune tries: an even design whose first point is the experiment as it is."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import pytest

from saman.configs.loading.experiments import load_experiment
from saman.tuning.machine.design import changes_at, designed, factors_of, full_grid


def factors(*changes: str, ranks: int | None = 2) -> Any:
    return factors_of(load_experiment("quickstart", changes, ranks).experiment, cores_per_rank=4)


def test_eight_runs_meet_every_pair_of_levels_equally_often() -> None:
    found = factors("train.strategy=horovod")
    points = designed(found)
    assert len(points) == 8 and points[0] == (0, 0, 0, 0) and len(set(points)) == 8
    for one, other in combinations(range(4), 2):
        pairs = Counter((point[one], point[other]) for point in points)
        assert len(pairs) == len(found[one].levels) * len(found[other].levels) and len(set(pairs.values())) == 1
    assert len(set(full_grid(found))) == 32


def test_every_setting_of_the_issue_is_searched() -> None:
    found = factors("train.strategy=horovod")
    keys = {key for factor in found for level in factor.levels for key in level.changes}
    assert keys == {
        "resources.threads_per_rank",
        "resources.binding",
        "launch.horovod.cycle_time_ms",
        "launch.horovod.fusion_threshold",
        "train.exchange.bucket",
    }
    assert changes_at(found, (0, 0, 0, 0)) == {}
    assert changes_at(found, (3, 0, 1, 0)) == {
        "resources.threads_per_rank": 8,
        "resources.binding": "none",
        "train.exchange.bucket": "4M",
    }


@pytest.mark.parametrize(("strategy", "ranks"), [("single", 1), ("multi_worker", 2)])
def test_without_horovod_only_threads_and_binding_act(strategy: str, ranks: int) -> None:
    found = factors(f"train.strategy={strategy}", ranks=ranks)
    assert [factor.name for factor in found] == ["threads and binding"]
    assert Counter(designed(found)) == {(level,): 2 for level in range(4)}


def test_a_value_of_the_experiment_is_tried_against_another() -> None:
    found = factors("train.strategy=horovod", "train.exchange.bucket=4M", "launch.horovod.cycle_time_ms=0.2",
                    "resources.binding=none", "resources.threads_per_rank=8")  # fmt: skip
    changes = changes_at(found, (3, 1, 1, 1))
    assert changes == {
        "resources.threads_per_rank": 4,
        "resources.binding": "cores",
        "launch.horovod.cycle_time_ms": 1.0,
        "train.exchange.bucket": "32M",
        "launch.horovod.fusion_threshold": "8M",
    }
