"""Memory bandwidth bounds a node: found from what ranks cost beside each other, in a machine built here.

A sample needs arithmetic and moves bytes. A core moves 10 GB/s alone, and all cores of a node 20 GB/s together.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import Made, write_runs

from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.findings import FindingKind
from saman.scaling.analysis.results import read_runs
from saman.scaling.conclusions.bounds import Bound, find_bounds

CORE, NODE, CORES = 10e9, 20e9, 8
ARITHMETIC, MOVED, BATCH = 1e-3, 20e6, 32
BANDWIDTH = tuple((cores, min(cores * CORE, NODE)) for cores in (1, 2, 4, 8))
OWN = Made(windows=12, noise=0.001, between=0, cores_per_rank=1, node_cores=CORES, memory_bandwidth=BANDWIDTH)


def _sample_seconds(ranks: int) -> float:
    """Seconds of a core per sample with so many ranks on the node."""
    return ARITHMETIC + MOVED / min(CORE, NODE / ranks)


def _runs(counts: tuple[int, ...], base: Made = OWN) -> list[Made]:
    return [
        replace(
            base,
            ranks=ranks,
            nodes=1,
            global_batch=BATCH * ranks,
            batch_per_rank=BATCH,
            step_seconds=BATCH * _sample_seconds(ranks),
            exchange_seconds=0.0,
            cpu_seconds_per_sample=_sample_seconds(ranks),
        )
        for ranks in counts
        for _ in range(3)
    ]


def _analysis(folder: Path, runs: list[Made], predict_at: list[int] | None = None) -> Analysis:
    return analyse(read_runs(write_runs(folder, runs)), predict_at=predict_at)


def test_the_bytes_of_a_sample_follow_from_ranks_beside_each_other(tmp_path: Path) -> None:
    found = _analysis(tmp_path, _runs((1, 2, 8)))
    (curve,) = found.curves
    traffic = curve.memory_traffic
    assert traffic is not None
    assert traffic.bytes_per_sample == pytest.approx(MOVED, rel=0.03)
    assert curve.memory_bound(1) == pytest.approx(NODE / MOVED, rel=0.03)
    assert curve.memory_bound(3) == pytest.approx(3 * NODE / MOVED, rel=0.03)
    (note,) = (finding for finding in found.findings if finding.kind is FindingKind.CONTENTION)
    assert "memory bandwidth per core falls by 75%" in note.text


def test_a_bandwidth_that_was_measured_too_low_bounds_nothing_that_was_reached(tmp_path: Path) -> None:
    slow = replace(OWN, memory_bandwidth=tuple((cores, rate / 4) for cores, rate in BANDWIDTH))
    wrong = tuple((cores, rate if cores == 1 else rate / 4) for cores, rate in BANDWIDTH)
    for base in (slow, replace(OWN, memory_bandwidth=wrong)):
        (curve,) = _analysis(tmp_path / str(base.memory_bandwidth[0][1]), _runs((1, 2, 8), base)).curves
        bound = curve.memory_bound(1)
        assert bound is not None
        assert bound >= max(point.throughput.value for point in curve.points)


def test_memory_is_named_as_what_bounds_the_run(tmp_path: Path) -> None:
    (verdict,) = find_bounds(_analysis(tmp_path, _runs((1, 2, 8))).drawable)
    waiting = 1 - _sample_seconds(1) / _sample_seconds(8)
    assert verdict.bound is Bound.MEMORY
    assert verdict.share == pytest.approx(waiting, abs=0.05)


def test_a_forecast_stays_below_what_memory_moves_and_names_the_boundary(tmp_path: Path) -> None:
    (curve,) = _analysis(tmp_path, _runs((1, 2, 4)), [8]).curves
    (ahead,) = curve.predictions
    assert ahead.high is not None
    assert ahead.high <= NODE / MOVED * 1.03
    assert ahead.caution is not None
    assert "memory bandwidth of a node that was not measured" in ahead.caution
    assert ahead.low is not None
    assert ahead.low <= CORES / _sample_seconds(8)


def test_ranks_that_cost_more_beside_memory_to_spare_are_not_blamed_on_it(tmp_path: Path) -> None:
    roomy = replace(OWN, memory_bandwidth=tuple((cores, cores * CORE) for cores in (1, 8)))
    found = _analysis(tmp_path, _runs((1, 2, 8), roomy))
    assert found.curves[0].memory_traffic is None
    assert found.curves[0].memory_bound(1) is None
    (note,) = (finding for finding in found.findings if finding.kind is FindingKind.CONTENTION)
    assert "compete for caches" in note.text
    assert find_bounds(found.drawable)[0].bound is Bound.COMPUTE


def test_runs_without_a_measured_bandwidth_have_no_bound(tmp_path: Path) -> None:
    (curve,) = _analysis(tmp_path, _runs((1, 2, 8), replace(OWN, memory_bandwidth=()))).curves
    assert curve.memory_bound(1) is None
