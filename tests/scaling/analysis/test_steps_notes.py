"""A report says which runs do not take the steps of a single rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic import Made, write_runs

from saman.scaling.analysis.findings import FindingKind
from saman.scaling.analysis.results import read_runs
from saman.scaling.analysis.review import review_runs


@pytest.mark.parametrize(
    ("strategy", "settings", "said"),
    [
        ("horovod", {"exchange": {"compression": "fp16"}}, "train.exchange.compression fp16"),
        ("horovod", {"exchange": {"reduction": "adasum"}}, "train.exchange.reduction adasum"),
        ("horovod", {"exchange": {"bucket": "1M", "sparse": "auto"}}, None),
        ("parameter_server", {"parameter_server": {"synchronous": False}}, "train.parameter_server.synchronous false"),
        ("parameter_server", {"parameter_server": {"synchronous": True}}, None),
    ],
)
def test_options_that_change_the_steps_are_a_note_of_the_report(
    tmp_path: Path, strategy: str, settings: dict[str, Any], said: str | None
) -> None:
    made = [Made(strategy=strategy, ranks=ranks, settings=tuple(settings.items())) for ranks in (1, 2)]
    runs = read_runs(write_runs(tmp_path, made))
    notes = [finding for finding in review_runs(runs) if finding.kind is FindingKind.OTHER_STEPS]
    if said is None:
        assert not notes
    else:
        [note] = notes
        assert note.note and said in note.text
        assert runs[1].facts.id in note.text and runs[0].facts.id not in note.text
