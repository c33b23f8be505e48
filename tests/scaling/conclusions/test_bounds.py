"""What bounds a run: each cause is built into runs by itself, and must be the one that is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import Made, write_runs
from timesliced import Machine, Program, write_cells

from saman.scaling.analysis.analysis import analyse
from saman.scaling.analysis.results import read_runs
from saman.scaling.conclusions.bounds import Bound, BoundVerdict, find_bounds

# Steps of 0.1 s; the clock of the events agrees with the windows, so no time passes between steps.
BASE = Made(
    ranks=4, step_seconds=0.1, exchange_seconds=0.002, input_wait_seconds=0.001, warmup=0, noise=0.001, between=0
)


def _verdicts(folder: Path, runs: Sequence[Made]) -> list[BoundVerdict]:
    return find_bounds(analyse(read_runs(write_runs(folder, runs))).drawable)


def _only(folder: Path, runs: Sequence[Made]) -> BoundVerdict:
    [verdict] = _verdicts(folder, runs)
    return verdict


def test_a_run_that_waits_for_its_batches_is_bound_by_input(tmp_path: Path) -> None:
    verdict = _only(tmp_path, [replace(BASE, input_wait_seconds=0.04)])
    assert verdict.bound is Bound.INPUT
    assert verdict.share == pytest.approx(0.4, abs=0.03)
    assert verdict.expected_gain == pytest.approx(1 / 0.6, rel=0.05)
    assert verdict.found is None


def test_a_run_without_a_loss_of_a_tenth_is_bound_by_its_own_compute(tmp_path: Path) -> None:
    verdict = _only(tmp_path, [replace(BASE, input_wait_seconds=0.009)])
    assert verdict.bound is Bound.COMPUTE
    assert "next: input" in verdict.evidence


@pytest.mark.parametrize(
    ("seconds", "bound"),
    [
        ({2: 0.004, 4: 0.012, 8: 0.028}, Bound.EXCHANGE_LATENCY),  # 2 ms for each of 2(n − 1) hops
        ({2: 0.020, 4: 0.030, 8: 0.035}, Bound.EXCHANGE_BANDWIDTH),  # 2(n − 1)/n of 20 ms
        ({8: 0.030}, Bound.EXCHANGE),  # a single count tells neither
    ],
)
def test_latency_and_bandwidth_of_an_exchange_are_told_apart_by_their_growth(
    tmp_path: Path, seconds: dict[int, float], bound: Bound
) -> None:
    runs = [replace(BASE, ranks=ranks, exchange_seconds=exchange) for ranks, exchange in seconds.items()]
    verdict = _only(tmp_path, runs)
    assert verdict.bound is bound
    assert verdict.ranks == 8


def test_a_verdict_says_where_stalls_are_part_of_it(tmp_path: Path) -> None:
    (path,) = write_runs(tmp_path, [replace(BASE, ranks=1, exchange_seconds=None)])
    even = find_bounds(analyse(read_runs([path])).drawable)[0].evidence
    file = path / "attempts/1/telemetry/00000.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines[::3]:
        line["seconds"] *= 4
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    stalled = find_bounds(analyse(read_runs([path])).drawable)[0].evidence
    assert "uneven" in stalled and "uneven" not in even


def test_a_straggler_in_a_part_of_the_run_is_not_taken_for_exchange(tmp_path: Path) -> None:
    """Medians over the run hide it: rank 2 is slow in four tenths of the windows, and the others wait in their sums."""
    (path,) = write_runs(tmp_path, [replace(BASE, ranks=8, exchange_seconds=0.01)])
    for rank in range(8):
        file = path / f"attempts/1/telemetry/{rank:05d}.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for line in lines[18:] if rank != 2 else ():
            line["exchange_seconds"] = 0.06 * line["steps"]
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    [verdict] = find_bounds(analyse(read_runs([path])).drawable)
    assert verdict.bound is Bound.STRAGGLERS
    assert verdict.share == pytest.approx(0.4 * 0.05 / 0.1, rel=0.15)
    assert "rank 2" in verdict.evidence and "in steps" in verdict.evidence


def test_ranks_that_share_cores_are_bound_by_them(tmp_path: Path) -> None:
    paths = write_runs(tmp_path, [replace(BASE, cores_per_rank=2)])
    for file in (path / "attempts/1/placement.json" for path in paths):
        plan = json.loads(file.read_text())
        plan["cores_shared"] = True
        for process in plan["processes"]:
            process["cores"] = [0, 1]
        file.write_text(json.dumps(plan))
    [verdict] = find_bounds(analyse(read_runs(paths)).curves)
    assert verdict.bound is Bound.SHARED_CORES
    assert "4 ranks per node × 2 cores on 2 cores" in verdict.evidence


def test_time_between_steps_is_that_of_checkpoints_and_validation(tmp_path: Path) -> None:
    paths = write_runs(tmp_path, [BASE])
    for file in (file for path in paths for file in path.glob("attempts/1/telemetry/*.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        slow = [{**line, "time": line["time"] + 0.6 * number} for number, line in enumerate(lines)]
        file.write_text("".join(json.dumps(line) + "\n" for line in slow))
    [verdict] = find_bounds(analyse(read_runs(paths)).curves)
    assert verdict.bound is Bound.OUTSIDE_STEPS
    assert verdict.share == pytest.approx(0.6 / 1.6, abs=0.05)


def test_stages_that_wait_for_each_other_bind_an_uneven_pipeline(tmp_path: Path) -> None:
    cells = write_cells(tmp_path, [Program(stages=2, uneven=0.8, micro_batches=4)], Machine(4))
    [verdict] = find_bounds(analyse(read_runs(cells)).curves)
    assert verdict.bound is Bound.STAGES
    assert "micro-batches" in verdict.change


def test_the_gain_that_a_study_found_stands_beside_the_gain_to_expect(tmp_path: Path) -> None:
    slow = replace(BASE, input_wait_seconds=0.04)
    other = {"data": {"cache": True}}
    cached = replace(BASE, step_seconds=0.065, input_wait_seconds=0.002, seed=5)
    unrelated = replace(cached, settings=(("precision", "float16"),), step_seconds=0.01, input_wait_seconds=0.0)
    paths = write_runs(tmp_path, [*[slow] * 6, *[cached] * 6, *[unrelated] * 6])
    for path in paths[6:]:
        written = json.loads((path / "experiment.yaml").read_text())
        (path / "experiment.yaml").write_text(json.dumps({**written, **other}))
    verdict = next(v for v in find_bounds(analyse(read_runs(paths)).drawable) if v.bound is Bound.INPUT)
    assert verdict.found is not None
    assert verdict.found.ratio.value == pytest.approx(0.1 / 0.065, rel=0.02)
    assert verdict.found.ratio.interval is not None
    assert verdict.expected_gain is not None and verdict.found.ratio.value <= verdict.expected_gain
    assert "a real difference" in verdict.found.verdict


def test_a_smaller_batch_does_not_count_as_the_larger_that_was_recommended(tmp_path: Path) -> None:
    runs = [replace(BASE, global_batch=batch, exchange_seconds=0.03) for batch in (128, 512) for _ in range(2)]
    found = {verdict.series: verdict.found for verdict in _verdicts(tmp_path, runs)}
    assert found["horovod global batch 128"] is not None
    assert found["horovod global batch 512"] is None
