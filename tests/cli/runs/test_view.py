"""The live view of a run: one line of progress, and the ranks' output without TensorFlow's chatter."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from saman.cli.output import short_number
from saman.cli.runs.view import RunView, progress_text
from saman.launcher.supervision.progress import TrainingProgress

TRAINING = TrainingProgress(
    phase="train", epoch=3, step=120, total_steps=300, samples_per_second=5200.0, loss=0.123456,
    metrics={"val_accuracy": 0.9, "top_5": 0.99}, remaining_seconds=2.0,
)  # fmt: skip


def shown(call: str, *arguments: object, quiet: bool = False) -> str:
    """What a view prints where output is no terminal."""
    text = io.StringIO()
    with RunView(Console(file=text, width=200), "made", quiet) as view:
        getattr(view, call)(*arguments)
    return text.getvalue()


def test_progress_is_a_line_of_what_is_known() -> None:
    line = progress_text(TRAINING)
    assert line.startswith("epoch 3  step 120/300  5.2k samples/s  loss 0.1235  val_accuracy 0.9  ")
    assert line.endswith(" left") and "top_5" not in line
    assert progress_text(TrainingProgress("start", 0, 0)) == "start"


def test_without_a_terminal_each_epoch_is_a_line() -> None:
    assert shown("progress", TRAINING).count("\n") == 1
    assert shown("progress", TrainingProgress("start", 0, 0)) == ""


def test_a_line_names_its_rank_unless_it_is_the_chiefs() -> None:
    assert shown("line", 0, "hello") == "hello\n"
    assert shown("line", 3, "hello") == "[3] hello\n"


@pytest.mark.parametrize(
    "line", ["WARNING: All log messages before absl::InitializeLog() is called …", "I0000 00:00:1.2 123 cuda.cc"]
)
def test_chatter_of_tensorflow_is_left_out(line: str) -> None:
    assert shown("line", 0, line) == ""


def test_a_quiet_view_prints_nothing() -> None:
    assert [shown(*call, quiet=True) for call in (("progress", TRAINING), ("line", 0, "x"), ("say", "x"))] == [""] * 3


@pytest.mark.parametrize(("value", "text"), [(0.5, "0.5"), (999.0, "999"), (5231.0, "5.23k"), (2.5e6, "2.5M")])
def test_a_number_has_three_digits_and_its_thousands(value: float, text: str) -> None:
    assert short_number(value) == text
