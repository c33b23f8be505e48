"""Answers to the stored sample: every example once, in order; the latency is that of a single example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.trainers.convert import sample_answers


def test_only_the_inputs_of_a_sample_are_inputs(tmp_path: Path) -> None:
    file, values = tmp_path / "validation.npz", np.arange(6.0).reshape(3, 2)
    stored = dict.fromkeys(("labels", "ids", "predictions", "training_ids"), np.zeros(3))
    np.savez(file, image=values, **stored)
    found = sample_answers.inputs(file)
    assert list(found) == ["image"] and (found["image"] == values).all()


def test_answers_are_written_in_the_order_of_the_examples(tmp_path: Path) -> None:
    values = np.arange(150.0).reshape(150, 1)  # more than two batches, the last batch short
    sizes = []

    def negate(batch: Any) -> Any:
        sizes.append(len(batch["inputs"]))
        return {"outputs": -batch["inputs"], "b": batch["inputs"] + 1, "a": batch["inputs"] + 2}

    report = sample_answers.write_answers(negate, {"inputs": values}, tmp_path / "answers.npy", runs=0)
    assert (np.load(tmp_path / "answers.npy") == -values).all()
    others = np.load(tmp_path / "answers.others.npy")
    assert (others == np.concatenate([values + 2, values + 1], 1)).all()
    assert (report.examples, report.shape, report.latency_milliseconds) == (150, (150, 1), None)
    assert sizes == [64, 64, 22]


def test_the_latency_is_measured_on_single_examples_after_a_warm_up() -> None:
    sizes: list[int] = []
    latency = sample_answers.latency_milliseconds(
        lambda batch: sizes.append(len(batch["x"])), {"x": np.zeros((9, 2))}, runs=4
    )
    assert latency is not None and latency >= 0
    assert sizes == [1] * (5 + 4)


@pytest.mark.parametrize(("examples", "runs"), [(0, 5), (3, 0)])
def test_nothing_to_time_has_no_latency(examples: int, runs: int) -> None:
    assert sample_answers.latency_milliseconds(len, {"x": np.zeros((examples, 2))}, runs) is None
