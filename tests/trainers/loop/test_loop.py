"""Promises of a whole run on a single rank: end, stop, resume, export, and reports of failures."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_starts import HERE, SOURCE, distance, final, make_run, start

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.experiment import Experiment
from saman.runs import checkpoints
from saman.runs.events import State
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.folder import RunFolder
from saman.runs.telemetry.window import read_windows

pytest.importorskip("tensorflow")

from saman.trainers.strategies.single import SingleStrategy
from saman.trainers.training import train

pytestmark = pytest.mark.tensorflow


class Beats:
    """Records the phases of the loop, in order."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.paces: list[float | None] = []

    def note_pace(self, busy_seconds: float | None, stage: int | None) -> None:
        self.paces.append(busy_seconds)

    def beat(self, phase: str, step: int = 0, epoch: int = 0, total_steps: int | None = None) -> None:
        if [phase] != self.phases[-1:]:
            self.phases.append(phase)


def experiment(**train: Any) -> Experiment:
    values: dict[str, Any] = {
        "name": "loop",
        "model": {"build": "mlp", "args": {"classes": 4, "hidden": [8]}},
        "data": {"source": "training_cases:images"},
        "train": {
            "strategy": "single",
            "global_batch_size": 24,
            "epochs": 3,
            "learning_rate": 0.1,
            "telemetry_window_steps": 3,
            **train,
        },
    }
    return Experiment.model_validate(values)


def run(folder: Path, exported: bool = False, beats: Beats | None = None, **values: Any) -> tuple[RunFolder, Any]:
    made = make_run(folder, experiment(**values))
    return made, train(made, made.experiment(), SingleStrategy(), 1, beats or Beats(), exported).loop


def epochs(made: RunFolder) -> list[dict[str, Any]]:
    return [dict(event.facts) for event in made.events() if event.kind == "epoch"]


def test_a_run_leaves_epochs_windows_checkpoints_and_an_export_that_predicts_the_same(tmp_path: Path) -> None:
    beats = Beats()
    made, loop = run(tmp_path, True, beats, optimizer={"name": "sgd", "momentum": 0.9})
    # Full batches and the short last batch have a graph each.
    first = ["compile", "train", "compile", "validate", "checkpoint"]
    assert beats.paces[0] is None and all(pace is not None and pace > 0 for pace in beats.paces[-5:])
    assert beats.phases == [*first, *2 * ["train", "validate", "checkpoint"], "export"]
    found = epochs(made)
    assert [epoch["step"] for epoch in found] == [7, 14, 21]
    assert found[-1]["metrics"]["loss"] < found[0]["metrics"]["loss"]
    graphs = (loop.step._steps_graph, loop.step._train)
    assert [graph.experimental_get_tracing_count() for graph in graphs] == [1, 1]  # later epochs trace nothing anew
    windows, dropped, _ = read_windows(made, 0)
    assert [window.steps for window in windows] == [1, 3, 2, 1, 3, 3, 1, 3, 3, 1] and dropped == 0
    assert (
        sum(window.samples for window in windows) == 3 * 149
        and [window.compiled for window in windows].count(True) == 2
    )
    assert [checkpoint.step for checkpoint in checkpoints.find(made.checkpoints)] == [21, 14, 7]
    about = json.loads((made.export / "export.json").read_text())
    assert about["checked"] and max(about["max_difference"].values()) <= 1e-6
    assert about["signature"]["inputs"] == {"inputs": {"dtype": "float32", "shape": [None, 6, 6, 1]}}
    assert about["metrics"] == loop.position.metrics
    assert about["statistics"]["labels"]["counts"].keys() == {"0", "1", "2", "3"}
    with np.load(made.export / "validation.npz") as sample:
        assert sample["inputs"].shape == (29, 6, 6, 1) and len(sample["training_ids"]) == 149
        assert not set(sample["ids"]) & set(sample["training_ids"])
    notices = [str(event.facts["text"]) for event in made.events() if event.kind == "notice"]
    assert any("no map" in text for text in notices)


def test_an_early_stop_ends_with_the_best_weights_and_metrics(tmp_path: Path) -> None:
    stop = {"metric": "val_loss", "patience": 2, "min_delta": 10.0}
    made, loop = run(tmp_path, epochs=9, early_stop=stop, checkpoint={"keep": 1})
    found = epochs(made)
    assert len(found) == 3  # the first is the best; nothing improves by ten
    assert loop.position.metrics == found[0]["metrics"]
    assert [checkpoint.step for checkpoint in checkpoints.find(made.checkpoints)] == [21, 7]
    best = checkpoints.Checkpoint(made.checkpoints / "step-00000007").read()[1]
    weights = {name: value for name, value in loop.step.state().items() if name.startswith("weight/")}
    assert distance(weights, {name: best[name] for name in weights}) == 0.0


def test_max_steps_ends_in_the_middle_of_an_epoch_with_metrics(tmp_path: Path) -> None:
    made, loop = run(tmp_path, max_steps=9)
    assert (loop.position.step, loop.finished) == (9, True) and "val_loss" in epochs(made)[-1]["metrics"]


def test_a_checkpoint_that_cannot_be_written_ends_the_training_and_the_one_before_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, calls = os.fsync, iter(range(99))

    def full_at_last(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        if name.startswith(".part") and next(calls) >= 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full_at_last)
    made = make_run(tmp_path, experiment(checkpoint={"every_steps": 3, "every_epochs": None}))
    with pytest.raises(EnvironmentLack, match="the disk is full"), explain_write_errors(made.path, "the run folder"):
        train(made, made.experiment(), SingleStrategy(), 1, Beats(), export=False)
    assert [checkpoint.step for checkpoint in checkpoints.find(made.checkpoints)] == [6, 3]
    assert not list(made.checkpoints.glob(".*/*"))  # its space is free


def test_a_resumed_run_that_had_finished_takes_no_step(tmp_path: Path) -> None:
    made, _ = run(tmp_path)
    before = final(made)
    again = train(made, made.experiment(), SingleStrategy(), 2, Beats(), export=False)
    assert again.finished and again.loop.position.step == 21 and distance(final(made), before) == 0.0
    assert len(epochs(made)) == 3


def test_half_precision_trains_and_its_loss_scale_is_kept(tmp_path: Path) -> None:
    made, loop = run(tmp_path, True, precision="mixed_float16", micro_batches=3)
    _, full = run(tmp_path, precision="float32")
    assert loop.position.metrics["val_loss"] == pytest.approx(full.position.metrics["val_loss"], rel=0.02)
    assert final(made)["loss_scale/value"] > 0


def test_a_run_is_repeated_by_its_own_experiment_file(tmp_path: Path) -> None:
    first, _ = run(tmp_path, optimizer="adam")
    again = make_run(tmp_path, first.experiment())
    train(again, again.experiment(), SingleStrategy(), 1, Beats(), export=False)
    assert distance(final(again), final(first)) == 0.0


def test_a_regression_has_no_accuracy(tmp_path: Path) -> None:
    values = experiment(loss="mean_squared_error").resolved()
    values["data"]["source"] = "training_cases:targets"
    made = make_run(tmp_path, Experiment.model_validate(values))
    loop = train(made, made.experiment(), SingleStrategy(), 1, Beats(), export=False).loop
    assert loop.position.metrics.keys() == {"loss", "val_loss"}


def test_measuring_the_exchange_leaves_no_trace(tmp_path: Path) -> None:
    from saman.trainers import assembly, keras_compat
    from saman.trainers.loop import calibrate

    what = experiment(optimizer="adam")
    keras_compat.start_session(3, "float32")
    prepared = assembly.prepare(what, SingleStrategy())
    step = assembly.build_step(what, SingleStrategy(), prepared)
    before = step.state()
    batches = [next(prepared.feeds.train(0).batches(part)) for part in step.slices]
    exchange = calibrate.measure_exchange(step, SingleStrategy(), batches, 3)  # type: ignore[arg-type]
    assert exchange.steps == 3 and 0 <= exchange.exposed_seconds < exchange.step_seconds
    assert distance(step.state(), before) == 0.0


@pytest.mark.slow
def test_mistakes_that_only_a_rank_can_find_are_events_and_exit_codes(tmp_path: Path) -> None:
    wrong = experiment().resolved()
    wrong["model"] = {"build": "cnn", "args": {}}
    wrong["data"] = {"source": "training_cases:sequences", "args": {}}
    made = make_run(tmp_path, Experiment.model_validate(wrong))
    done = start(1, "-m", "saman.trainers.worker", str(made.path))
    assert done.returncode == 2 and "Traceback" not in done.stderr
    [failed] = [event.facts for event in made.events() if event.kind == "rank_failed"]
    assert failed["failure"] == "user_error" and "cnn cannot be built for inputs of shape (5,)" in failed["message"]

    broken = experiment().resolved()
    broken["data"] = {"source": "training_cases:broken", "args": {}}
    made = make_run(tmp_path, Experiment.model_validate(broken))
    done = start(1, "-m", "saman.trainers.worker", str(made.path))
    assert done.returncode == 1 and "Traceback" in done.stderr
    [failed] = [event.facts for event in made.events() if event.kind == "rank_failed"]
    assert failed["failure"] == "user_code" and failed["rank"] == 0
    assert failed["message"].startswith("training_cases:broken (data.source) failed on rank 0 at training_cases.py:")
    assert "ZeroDivisionError: division by zero; called with ctx=Context" in failed["message"]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["single", pytest.param("horovod", marks=pytest.mark.ranks)])
def test_a_worker_started_by_hand_keeps_the_books_itself(tmp_path: Path, strategy: str) -> None:
    made = make_run(tmp_path, experiment(epochs=1, strategy=strategy))
    command = [sys.executable, "-m", "saman.trainers.worker", str(made.path)]
    environ = {"PYTHONPATH": str(SOURCE), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environ, cwd=HERE, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert made.state is State.COMPLETED and [attempt.number for attempt in made.attempts()] == [1]
    summary = made.summary()
    assert summary is not None and summary.metrics["val_loss"] > 0
    assert (made.export / "saved_model" / "saved_model.pb").is_file()
