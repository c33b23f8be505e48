"""The baseline: what speed-up, efficiency, ideal lines and predicted efficiency are relative to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import Made, curve, write_runs

from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.results import read_runs
from saman.scaling.report.figures.figures import make_figures
from saman.scaling.report.figures.vega import Figure
from saman.scaling.report.opening import opening
from saman.scaling.report.tables import prediction_rows

BASE = Made(step_seconds=0.8, windows=15, noise=0.005, between=0.005)


@pytest.fixture(scope="module")
def against_single(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    """``single`` on a rank, and Horovod on 2, 4 and 8 ranks only."""
    runs = [*[replace(BASE, strategy="single")] * 6, *curve(BASE, (2, 4, 8), 0.02, 6)]
    return analyse(read_runs(write_runs(tmp_path_factory.mktemp("single") / "made", runs)))


def _figure(analysis: Analysis, name: str) -> Figure:
    return next(figure for figure in make_figures(analysis) if figure.name == name)


def test_single_is_the_baseline_of_another_strategy(against_single: Analysis) -> None:
    horovod = next(curve for curve in against_single.curves if curve.label == "horovod")
    assert horovod.baseline is not None
    assert (horovod.baseline.curve, horovod.baseline.ranks) == ("single", 1)
    assert horovod.baseline.throughput.value == pytest.approx(256 / 0.8, rel=0.02)
    assert [point.ranks for point in horovod.points_beyond_baseline] == [2, 4, 8]


def test_predicted_efficiency_is_relative_to_the_baseline_of_another_curve(against_single: Analysis) -> None:
    rows = prediction_rows(against_single.drawable)
    assert {row.ranks for row in rows} == {16, 32}
    for row in rows:
        assert row.efficiency == pytest.approx(row.samples_per_second / (row.ranks * 256 / 0.8), rel=0.02)
        assert row.efficiency_low is not None
        assert row.efficiency_high is not None
        assert row.efficiency_low < row.efficiency < row.efficiency_high


def test_the_ideal_line_starts_at_the_baseline_of_another_curve(against_single: Analysis) -> None:
    figure = _figure(against_single, "throughput")
    assert "ideal, from the baseline" in figure.caption
    ideal = figure.spec["layer"][0]["data"]["values"]
    assert {entry["series"] for entry in ideal} == {"horovod"}
    assert [entry["ranks"] for entry in ideal] == [1, 2, 4, 8]
    assert all(entry["value"] == pytest.approx(entry["ranks"] * 256 / 0.8, rel=0.02) for entry in ideal)


def test_the_ideal_speedup_counts_from_the_ranks_of_the_baseline(tmp_path: Path) -> None:
    """Also where the curve of the baseline is not drawn, and the smallest drawn count is another count."""
    runs = [*[replace(BASE, strategy="single")] * 2, *curve(BASE, (2, 4), 0.02, 2)]
    runs[0] = replace(runs[0], cpu="Another CPU")
    found = analyse(read_runs(write_runs(tmp_path / "made", runs)))
    assert [curve.label for curve in found.drawable] == ["horovod"]
    ideal = _figure(found, "speedup").spec["layer"][0]["data"]["values"]
    assert [(entry["ranks"], entry["value"]) for entry in ideal] == [(2, 2.0), (4, 4.0)]


def test_the_opening_names_the_baseline_of_another_curve(against_single: Analysis) -> None:
    best, grows, _ = opening(against_single)[-3:]
    assert "× the throughput of single on 1 rank on 8 ranks" in best
    assert grows.startswith("Throughput still grows at 8 ranks, the largest count measured")


def test_a_baseline_of_several_ranks_leaves_out_points_below_it(tmp_path: Path) -> None:
    found = analyse(read_runs(write_runs(tmp_path / "made", curve(BASE, (1, 2, 4), 0.02, 2))), base_ranks=2)
    (horovod,) = found.curves
    assert horovod.baseline is not None
    assert horovod.baseline.label == "horovod on 2 ranks"
    assert [point.ranks for point in horovod.points_beyond_baseline] == [4]
    assert horovod.points[0].serial_fraction is None
    assert horovod.points[1].speedup is not None
    assert horovod.points[1].speedup.value == 1.0
