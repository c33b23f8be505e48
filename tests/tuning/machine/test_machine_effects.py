"""What each setting gains: intervals that hold, and a search that comes close to the best point of the full grid."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from saman.configs.loading.experiments import load_experiment
from saman.tuning.machine.design import Point, designed
from saman.tuning.machine.effects import Effects, Measured
from saman.tuning.machine.search import MOST_RUNS, prepare_search, search
from saman.tuning.machine.settings_file import settings_lines, write_settings

COUNTS = (4, 2, 2, 2)
GRID = list(product(*map(range, COUNTS)))


@pytest.fixture(scope="module")
def wanted() -> Any:
    return prepare_search("quickstart", ["train.strategy=horovod", "resources.cpus_per_rank=1"], 2)


def machine(seed: int, together: float = 0.0) -> Callable[[Point], float]:
    """The true throughput at each point: a factor per level, and a part in which factors act together."""
    generator = random.Random(seed)
    levels = [[0.0] + [generator.gauss(0.0, 0.12) for _ in range(1, count)] for count in COUNTS]
    extra = {point: generator.gauss(0.0, together) if any(point) else 0.0 for point in GRID}
    return lambda point: 1000 * math.exp(sum(part[at] for part, at in zip(levels, point, strict=True)) + extra[point])


def noisy(truth: Callable[[Point], float], spread: float, seed: int) -> Callable[[Point], float]:
    generator = random.Random(1000 + seed)
    return lambda point: truth(point) * math.exp(generator.gauss(0.0, spread))


def test_the_search_gains_nine_tenths_of_what_the_full_grid_gains_in_ten_runs(wanted: Any) -> None:
    shares = []
    for seed in range(40):
        truth = machine(seed, together=0.02)
        found = search(wanted, noisy(truth, 0.01, seed))
        assert len(found.runs) <= MOST_RUNS
        best, before = max(map(truth, GRID)), truth((0, 0, 0, 0))
        shares.append((truth(found.chosen) / before - 1) / (best / before - 1))
    assert sum(shares) / len(shares) >= 0.9 and sum(share >= 0.9 for share in shares) >= 32


def test_intervals_cover_the_truth_as_often_as_they_say(wanted: Any) -> None:
    covered = []
    for seed in range(200):
        truth = machine(seed)
        found = search(wanted, noisy(truth, 0.03, seed))
        gain, real = found.effects.gain_of(0, 3), truth((3, 0, 0, 0)) / 1000 - 1
        assert gain.low is not None and gain.high is not None
        covered.append(gain.low <= real <= gain.high)
    assert 0.90 <= sum(covered) / 200 <= 0.99


def test_a_machine_on_which_nothing_gains_keeps_the_experiment_as_it_is(wanted: Any, tmp_path: Path) -> None:
    found = search(wanted, lambda point: 1000.0 * 0.9 ** sum(map(bool, point)))
    assert found.chosen == (0, 0, 0, 0) and found.gain.value == pytest.approx(0.0)
    write_settings(found, tmp_path / "found.yaml")
    assert "stays as it is" in "\n".join(settings_lines(found, "here"))


def test_the_file_is_included_by_an_experiment_and_sets_what_was_chosen(wanted: Any, tmp_path: Path) -> None:
    found = search(wanted, lambda point: 1000.0 * (1 + 0.2 * (point[0] == 3) + 0.1 * point[1] - 0.1 * point[2]))
    assert found.chosen[:3] == (3, 1, 0)
    assert found.gain.value == pytest.approx(0.3, abs=0.03)
    write_settings(found, tmp_path / "machine" / "found.yaml")
    base = load_experiment("quickstart").file.read_text()
    (tmp_path / "mine.yaml").write_text(f"include: [machine/found.yaml]\n{base}")
    mine = load_experiment(str(tmp_path / "mine.yaml"), ["train.strategy=horovod"], 2).experiment
    assert (mine.resources.binding, mine.resources.threads_per_rank) == ("none", 2)
    assert mine.launch.horovod.cycle_time_ms == 0.2 and mine.train.exchange.bucket == "32M"


def test_repeated_points_tell_an_interval_and_too_few_runs_withhold_it() -> None:
    exact = Effects((2,), [Measured((0,), 100.0), Measured((1,), 110.0)])
    assert exact.gain_of(0, 1).value == pytest.approx(0.1) and exact.gain_of(0, 1).low is None
    runs = [Measured((0,), 99.0), Measured((0,), 101.0), Measured((1,), 110.0), Measured((1,), 112.0)]
    gain = Effects((2,), runs).gain_of(0, 1)
    assert gain.low is not None and gain.high is not None and gain.low < 0.11 < gain.high


def test_the_last_runs_are_the_best_expected_point_and_the_experiment_as_it_is(wanted: Any) -> None:
    found = search(wanted, machine(7))
    assert sorted(run.point for run in found.runs[:8]) == sorted(designed(wanted.factors))
    assert found.runs[8].point == max(GRID, key=machine(7)) and found.runs[9].point == (0, 0, 0, 0)
