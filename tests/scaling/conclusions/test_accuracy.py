"""Time to a target, and whether larger batches need more epochs for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import Made, write_runs

from saman.configs.errors import UserError
from saman.scaling.analysis.analysis import analyse
from saman.scaling.analysis.curves import Curve
from saman.scaling.analysis.results import read_runs
from saman.scaling.conclusions.accuracy import BatchVerdict, Target, time_to_accuracy
from saman.scaling.report.conclusion_tables import target_table
from saman.scaling.statistics.rank_test import larger_test

BASE = Made(windows=20, epochs=10, between=0.0)
GOAL = Target("val_accuracy", 0.9)


def _curves(folder: Path, runs: Sequence[Made], reach: Sequence[int | None]) -> list[Curve]:
    """Runs whose accuracy rises to the goal in the given epoch, an epoch every 10 s; None: never."""
    paths = write_runs(folder, runs)
    for path, goal in zip(paths, reach, strict=True):
        start = 1.7e9
        events = [{"schema": 1, "time": start, "kind": "created", "who": "submitter"}]
        events += [{"schema": 1, "time": start + 5, "kind": "attempt_started", "who": "supervisor", "attempt": 1}]
        for epoch in range(1, 11):
            metrics = {"val_accuracy": 0.93 if goal is not None and epoch >= goal else 0.5 + 0.01 * epoch}
            fact = {"epoch": epoch, "step": 20 * epoch, "metrics": metrics}
            events.append({"schema": 1, "time": start + 5 + 10 * epoch, "kind": "epoch", "who": "rank 0", **fact})
        events.append({"schema": 1, "time": start + 200, "kind": "completed", "who": "supervisor"})
        (path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return list(analyse(read_runs(paths)).drawable)


def test_time_and_samples_run_to_the_first_evaluation_beyond_the_target(tmp_path: Path) -> None:
    found = time_to_accuracy(_curves(tmp_path, [BASE] * 6, [3, 4, 4, 5, 5, 6]), GOAL)
    assert found is not None
    [point] = found.points
    assert point.reached == point.repeats == 6
    assert point.epochs is not None and point.epochs.value == 4.5
    assert point.epochs.interval is not None and (point.epochs.interval.low, point.epochs.interval.high) == (3, 6)
    assert point.seconds is not None and point.seconds.value == pytest.approx(45)
    assert point.samples is not None and point.samples.value == pytest.approx(4.5 * 20 * 256, rel=0.06)
    shown = [column.name for column in target_table(found).columns if column.main]  # on a terminal
    assert {"seconds", "epochs", f"runs with {GOAL.words}"} <= set(shown)


def test_runs_that_never_reach_the_target_are_counted_and_no_median_is_shown(tmp_path: Path) -> None:
    found = time_to_accuracy(_curves(tmp_path, [BASE] * 3, [3, 4, None]), GOAL)
    assert found is not None
    [point] = found.points
    assert (point.reached, point.repeats) == (2, 3)
    assert point.seconds is point.epochs is None
    assert "1 of 3 runs never reach" in point.note


def test_without_a_wish_the_target_is_what_the_worst_run_reaches(tmp_path: Path) -> None:
    found = time_to_accuracy(_curves(tmp_path, [BASE] * 2, [3, None]))
    assert found is not None
    assert found.target == Target("val_accuracy", 0.6)
    assert all(point.reached == point.repeats for point in found.points)
    assert time_to_accuracy([]) is None


@pytest.mark.parametrize(
    ("large", "verdict"),
    [
        ((6, 7, 7, 8, 8, 9), BatchVerdict.MORE),
        ((3, 4, 4, 5, 5, 3), BatchVerdict.NOT_SHOWN),
        ((2,) * 6, BatchVerdict.NOT_SHOWN),
    ],
)
def test_a_larger_batch_that_needs_more_epochs_is_named_and_only_that(
    tmp_path: Path, large: Sequence[int], verdict: BatchVerdict
) -> None:
    small = [replace(BASE, global_batch=128)] * 6
    curves = _curves(tmp_path, [*small, *[replace(BASE, global_batch=512)] * 6], [3, 4, 4, 5, 5, 4, *large])
    found = time_to_accuracy(curves, GOAL)
    assert found is not None
    [test] = found.batches
    assert (test.batch, test.smallest, test.verdict) == (512, 128, verdict)
    assert test.ratio.value == pytest.approx(np.median(large) / 4)


def test_two_repeats_give_no_verdict_on_batches(tmp_path: Path) -> None:
    curves = _curves(tmp_path, [*[replace(BASE, global_batch=64)] * 2, *[BASE] * 2], [3, 3, 9, 9])
    found = time_to_accuracy(curves, GOAL)
    assert found is not None
    assert [test.verdict for test in found.batches] == [BatchVerdict.TOO_FEW]


def test_the_one_sided_test_keeps_its_rate_of_false_alarms() -> None:
    rng = np.random.default_rng(11)
    alarms = [larger_test(*rng.integers(3, 9, (2, 6)).astype(float)).p <= 0.05 for _ in range(1500)]
    assert np.mean(alarms) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)
    assert larger_test([9.0] * 6, [3.0] * 6).p < 0.01
    assert larger_test([3.0] * 6, [9.0] * 6).p == 1.0
    assert larger_test([float("inf")] * 4, [5.0] * 4).p < 0.05


def test_a_target_is_read_from_words_and_bad_words_are_refused() -> None:
    assert Target.parse("val_accuracy=0.97") == Target("val_accuracy", 0.97)
    assert Target.parse("loss=0.2").is_loss
    for text in ("0.97", "accuracy=", "accuracy=high", "=0.5", "accuracy=nan"):
        with pytest.raises(UserError, match="METRIC=VALUE"):
            Target.parse(text)
