"""Shared cores are a boundary: a finding, a curve of its own, and no forecast across."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import Made, curve, write_runs

from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.findings import FindingKind
from saman.scaling.analysis.results import read_runs
from saman.scaling.report.opening import opening
from saman.scaling.report.tables import prediction_rows

# Nodes of 8 cores and ranks of 1 core: 16 ranks on a node take turns, and a step takes as long as on 8 ranks.
OWN = Made(step_seconds=0.8, windows=15, noise=0.005, between=0.005, cores_per_rank=1, node_cores=8)
TURNS = [replace(OWN, ranks=16, step_seconds=0.1, exchange_seconds=0.06)] * 6


def _analysis(folder: Path, runs: list[Made], predict_at: list[int] | None = None) -> Analysis:
    return analyse(read_runs(write_runs(folder, [replace(run, nodes=1) for run in runs])), predict_at=predict_at)


def _kinds(found: Analysis) -> set[FindingKind]:
    return {finding.kind for finding in found.findings}


def test_ranks_that_take_turns_are_a_finding_and_a_curve_of_their_own(tmp_path: Path) -> None:
    found = _analysis(tmp_path / "r", [*curve(OWN, (1, 2, 4, 8), 0.02, 6), *TURNS])
    assert [(each.label, [point.ranks for point in each.points]) for each in found.curves] == [
        ("horovod own cores", [1, 2, 4, 8]),
        ("horovod shared cores", [16]),
    ]
    (note,) = (finding for finding in found.findings if finding.kind is FindingKind.SHARED_CORES)
    assert note.note and "8 cores" in note.text and "16 ranks" in note.text
    shared = found.curves[1]
    assert shared.baseline is not None and shared.baseline.label == "horovod own cores on 1 rank"
    assert shared.points[0].speedup is not None
    assert shared.points[0].speedup.value == pytest.approx(8, rel=0.05)


def test_a_study_without_sharing_has_neither(tmp_path: Path) -> None:
    found = _analysis(tmp_path / "r", curve(OWN, (1, 2, 4), 0.02, 2))
    assert [each.label for each in found.curves] == ["horovod"]
    assert FindingKind.SHARED_CORES not in _kinds(found)


def test_no_forecast_is_made_across_the_boundary(tmp_path: Path) -> None:
    """8 ranks still fit on the node; 16 and 32 would share its cores."""
    found = _analysis(tmp_path / "r", curve(OWN, (1, 2, 4), 0.02, 6), [8, 16, 32])
    assert [row.ranks for row in prediction_rows(found.drawable)] == [8]
    (horovod,) = found.curves
    assert [(each.ranks, each.cores_wanted, each.cores_of_node) for each in horovod.refused] == [
        (16, 16, 8),
        (32, 32, 8),
    ]
    refusals = [finding for finding in found.findings if finding.kind is FindingKind.FORECAST_REFUSED]
    assert len(refusals) == 2 and all(finding.note for finding in refusals)


def test_more_nodes_do_not_share_cores(tmp_path: Path) -> None:
    runs = write_runs(tmp_path / "r", curve(replace(OWN, node_cores=4), (1, 2, 4, 8), 0.02, 6, per_node=4))
    found = analyse(read_runs(runs), predict_at=[16, 32])
    assert [row.ranks for row in prediction_rows(found.drawable)] == [16, 32]
    assert FindingKind.FORECAST_REFUSED not in _kinds(found)


def test_what_shared_cores_cost_is_not_blamed_on_the_exchange(tmp_path: Path) -> None:
    one_rank = [replace(OWN, ranks=1)] * 6
    *_, limit = opening(_analysis(tmp_path / "r", [*one_rank, *TURNS]))
    assert "is bound by shared cores" in limit and "16 ranks per node × 1 cores on 8 cores" in limit


def test_predict_refuses_with_the_reason(tmp_path: Path) -> None:
    write_runs(tmp_path / "runs" / "made", [replace(run, nodes=1) for run in curve(OWN, (1, 2, 4), 0.02, 6)])
    command = [sys.executable, "-m", "saman", "predict", "made", "--ranks", "16"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "16 ranks on 1 node want 16 cores per node of 8" in " ".join(done.stderr.split())


def test_cpu_seconds_bound_what_a_node_can_do(tmp_path: Path) -> None:
    """A sample costs 10 ms of CPU time: 8 cores give at most 800 samples/s, whatever a law says."""
    runs = curve(replace(OWN, cpu_seconds_per_sample=0.01), (1, 2), 0.0, 6)
    runs += [replace(OWN, ranks=4, step_seconds=0.2, exchange_seconds=0.0, cpu_seconds_per_sample=0.012)] * 6
    found = _analysis(tmp_path / "r", runs, [8])
    (horovod,) = found.curves
    assert horovod.core_bound(1) == pytest.approx(800, rel=0.01)
    assert horovod.core_bound(3) == pytest.approx(2400, rel=0.01)
    (ahead,) = horovod.predictions
    assert ahead.throughput <= 800.01 and ahead.high is not None and ahead.high <= 800.01
    assert ahead.low is not None and ahead.low <= ahead.throughput
    assert ahead.caution is not None and "limited by the cores of 1 node to 800 samples/s" in ahead.caution


def test_without_cpu_seconds_there_is_no_bound(tmp_path: Path) -> None:
    found = _analysis(tmp_path / "r", curve(OWN, (1, 2, 4), 0.02, 2), [8])
    assert found.curves[0].core_bound(1) is None
    assert found.curves[0].predictions[0].high is not None


def test_ranks_that_compete_for_memory_are_a_note(tmp_path: Path) -> None:
    """Eight ranks with a core each need 1.5 times the CPU seconds of a single rank for the same work."""
    runs = [replace(made, cpu_seconds_per_sample=0.004) for made in curve(OWN, (1, 2), 0.0, 3)]
    runs += [replace(OWN, ranks=8, step_seconds=0.15, exchange_seconds=0.0, cpu_seconds_per_sample=0.006)] * 3
    found = _analysis(tmp_path / "r", runs)
    (note,) = (finding for finding in found.findings if finding.kind is FindingKind.CONTENTION)
    assert note.note and "50% more CPU time with 8 ranks on a node than with 1" in note.text


def test_polling_in_the_exchange_is_no_contention(tmp_path: Path) -> None:
    """Eight ranks poll for half of a step of 200 ms: 8 × 0.1 s of CPU time for 256 samples."""
    runs = [replace(made, cpu_seconds_per_sample=0.004) for made in curve(OWN, (1, 2), 0.0, 3)]
    polled = 0.004 + 8 * 0.1 / 256
    runs += [replace(OWN, ranks=8, step_seconds=0.2, exchange_seconds=0.1, cpu_seconds_per_sample=polled)] * 3
    assert FindingKind.CONTENTION not in _kinds(_analysis(tmp_path / "r", runs))
