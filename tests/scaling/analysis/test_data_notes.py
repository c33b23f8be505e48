"""A report repeats what runs said about their data, once for all runs that said the same."""

from __future__ import annotations

from pathlib import Path

from synthetic import Made, write_runs

from saman.runs.folder import RunFolder
from saman.runs.ranks.training_events import DataNotice, Notice
from saman.scaling.analysis.findings import FindingKind
from saman.scaling.analysis.results import read_runs
from saman.scaling.analysis.review import review_runs


def test_the_cost_of_reading_without_random_access_is_a_note_of_the_report(tmp_path: Path) -> None:
    paths = write_runs(tmp_path, [Made(ranks=2, seed=seed) for seed in range(2)])
    for rate, path in enumerate(paths, 7):
        run = RunFolder.open(path)
        for notice in (
            Notice("something else"),
            DataNotice(f"each rank reads all 900 examples, at {rate}e+03 per second"),
        ):
            run.append(notice.kind, "rank 0", 1, **notice.facts())
    runs = read_runs(paths)
    [note] = [finding for finding in review_runs(runs) if finding.kind is FindingKind.DATA]
    assert note.note and note.text.endswith(": each rank reads all 900 examples, at 7e+03 per second")
    assert all(run.facts.id in note.text for run in runs)
