"""``saman report`` and ``saman predict``: the page, a short form on the terminal, and numbers as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic import Made, write_runs


@pytest.fixture
def runs(tmp_path: Path) -> str:
    """Two runs on each of 1, 2 and 4 ranks, with an exchange."""
    made = [
        Made(ranks=ranks, global_batch=64 * ranks, batch_per_rank=64, step_seconds=0.1 + 0.01 * (ranks > 1), seed=seed,
             exchange_seconds=0.0, warmup=0)
        for ranks in (1, 2, 4) for seed in (1, 2)
    ]  # fmt: skip
    write_runs(tmp_path / "runs" / "made", made)
    return "runs/made"


def test_a_report_is_a_page_and_a_table_of_its_points(saman: Any, tmp_path: Path, runs: str) -> None:
    shown = saman("report", runs, "-o", "page", "--no-papers")
    assert (tmp_path / "page" / "report.html").is_file()
    assert "Points" in shown.out and "speed-up" in shown.out
    assert "Karp" not in shown.out and "Laws" not in shown.out  # on the page only
    assert shown.out.rstrip().endswith("page/report.html")


def test_the_report_as_json_holds_every_point(saman: Any, runs: str) -> None:
    told = saman("report", runs, "-o", "page", "--no-papers", "--json").json
    assert [row["ranks"] for row in told["tables"]["points"]] == [1, 2, 4]
    assert told["report"] == "page/report.html" and told["opening"]


def test_a_comparison_needs_two_studies(saman: Any, runs: str) -> None:
    refused = saman("report", "--compare", runs)
    assert refused.status == 2 and "--compare" in refused.err


def test_a_prediction_covers_every_count_that_is_asked_for(saman: Any, runs: str) -> None:
    told = saman("predict", runs, "--ranks", "8,16", "--json").json
    assert [row["ranks"] for row in told["predictions"]] == [8, 16]


@pytest.mark.parametrize("counts", ["8,x", "0", "-4", ""])
def test_a_count_that_is_no_count_is_refused(saman: Any, runs: str, counts: str) -> None:
    refused = saman("predict", runs, "--ranks", counts)
    assert refused.status == 2 and "--ranks" in refused.err
