"""The evidence of a tuned model survives its file."""

from __future__ import annotations

import json
from pathlib import Path

from saman.runs.tuning.evidence import SeedValue, TuningEvidence


def test_what_is_written_is_read(tmp_path: Path) -> None:
    seeds = (SeedValue(1, "run-a", 0.91), SeedValue(2, "run-b", None))
    evidence = TuningEvidence("t", 17, {"train.seed": 3}, {"metric": "val_accuracy"}, 0.93, seeds, 0.91, node_hours=1.5)
    evidence.write(tmp_path / "tuning.json")
    assert TuningEvidence.read(tmp_path / "tuning.json") == evidence
    assert TuningEvidence.read(tmp_path / "none.json") is None


def test_an_unknown_field_of_a_later_saman_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "tuning.json").write_text(json.dumps({"schema": 1, "study": "t", "later": [1]}))
    found = TuningEvidence.read(tmp_path / "tuning.json")
    assert found is not None and found.study == "t"
