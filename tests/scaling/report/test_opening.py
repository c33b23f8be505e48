"""The first sentences of a report claim nothing that the tests below them do not show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import Made, curve, write_runs

from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.results import read_runs
from saman.scaling.report.opening import opening

BASE = Made(step_seconds=0.8, windows=15, noise=0.01, between=0.02)
OTHER = replace(BASE, strategy="multi_worker")


def _analysis(folder: Path, runs: list[Made]) -> Analysis:
    return analyse(read_runs(write_runs(folder, runs)))


@pytest.mark.parametrize("seed", range(4))
def test_equal_truths_have_no_winner(seed: int, tmp_path: Path) -> None:
    """Twelve runs of each of two series with the same truth: whichever is ahead by luck is not called the fastest."""
    runs = curve(replace(BASE, seed=seed), (1, 2), 0.02, 6) + curve(replace(OTHER, seed=seed), (1, 2), 0.02, 6)
    found = _analysis(tmp_path / "r", runs)
    assert not any(contrast.verdict.different for contrast in found.contrasts)
    compared, gain, *_ = opening(found)
    assert compared.startswith("No series is shown to be the fastest on 2 ranks")
    assert "no difference shown (corrected p = " in compared
    assert "best" not in gain and "fastest" not in gain


def test_too_few_repeats_are_no_verdict(tmp_path: Path) -> None:
    found = _analysis(
        tmp_path / "r", curve(BASE, (1, 2), 0.02, 2) + curve(replace(OTHER, step_seconds=1.6), (1, 2), 0.02, 2)
    )
    assert "too few repeats for a verdict" in opening(found)[0]


def test_a_series_that_was_not_run_on_the_largest_count_competes_too(tmp_path: Path) -> None:
    """multi_worker is 30 % faster wherever both ran; horovod alone ran on 8 ranks."""
    faster = replace(OTHER, step_seconds=BASE.step_seconds / 1.3)
    found = _analysis(tmp_path / "r", curve(BASE, (1, 2, 4, 8), 0.02, 8) + curve(faster, (1, 2, 4), 0.02, 8))
    compared, *_ = opening(found)
    assert compared.startswith("multi_worker is the fastest on 4 ranks, the largest count that 2 of 2 series share")
    ratio = float(compared.split("× the throughput of horovod")[0].split()[-1])
    assert ratio == pytest.approx(1.3, rel=0.05)
    low, high = (float(word) for word in compared.split("interval ")[1].split(")")[0].split(" to "))
    assert low < ratio < high


def test_where_scaling_stops_paying_is_said_with_the_interval(tmp_path: Path) -> None:
    """With a serial fraction of 60 %, twice the ranks give 1.25 times the throughput, and paying is 1.5 times."""
    *_, stops, _ = opening(_analysis(tmp_path / "r", curve(BASE, (1, 2), 0.6, 8)))
    assert stops.startswith("Scaling stops paying between 1 and 2 ranks: 2× the ranks give 1.2")
    assert "95% interval" in stops


def test_an_interval_that_holds_the_limit_is_no_claim(tmp_path: Path) -> None:
    """A gain of 1.48 from noisy runs does not show that it is below 1.5."""
    noisy = replace(BASE, between=0.1, seed=2)
    *_, stops, _ = opening(_analysis(tmp_path / "r", curve(noisy, (1, 2), 0.4, 6)))
    assert "may stop" in stops or "not shown" in stops or "still grows" in stops
    assert not stops.startswith("Scaling stops paying")


def test_no_gain_is_claimed_where_the_interval_holds_one(tmp_path: Path) -> None:
    noisy = replace(BASE, between=0.08, seed=3)
    _, *rest = "", *opening(_analysis(tmp_path / "r", curve(noisy, (1, 2), 0.98, 6)))
    assert "no gain from more ranks" in rest[0]
    assert "95% interval" in rest[0]


def test_a_single_series_is_compared_with_nothing(tmp_path: Path) -> None:
    found = _analysis(tmp_path / "r", curve(BASE, (1, 2, 4), 0.02, 6))
    assert opening(found)[0].startswith("horovod reaches")
    assert "bootstrap over 6 runs" in opening(found)[0]
