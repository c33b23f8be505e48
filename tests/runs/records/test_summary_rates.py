"""A summary keeps both rates: sustained, and end to end; a summary of before has the first only."""

from __future__ import annotations

import json
from pathlib import Path

from saman.runs.records.summary import Summary


def test_both_rates_survive_the_file(tmp_path: Path) -> None:
    Summary("completed", samples_per_second=200.0, end_to_end_samples_per_second=120.0).write(tmp_path / "summary.json")
    found = Summary.read(tmp_path / "summary.json")
    assert found is not None
    assert (found.samples_per_second, found.end_to_end_samples_per_second) == (200.0, 120.0)


def test_an_older_summary_has_no_end_to_end_rate(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps({"schema": 1, "state": "completed", "samples_per_second": 200.0}))
    found = Summary.read(tmp_path / "summary.json")
    assert found is not None and found.end_to_end_samples_per_second is None
