"""The contract: every strategy and every rank count takes the same optimiser steps, and a resumed run does too."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
from rank_starts import copied, distance, experiment, final, make_run, train
from training_cases import PARALLEL as CASES

from saman.configs.schemas.experiment import Experiment
from saman.runs import checkpoints
from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

LIMITS = {"float32": 1e-4, "float64": 1e-10}
STEPS = 21  # three epochs of seven
POISONED = {**CASES["plain"], "data": {"source": "training_cases:poisoned"}}
ROLLED_BACK = {"on_nonfinite": "rollback", "checkpoint": {"every_steps": 2, "every_epochs": None, "keep": 50}}
KERAS_2 = version("keras").startswith("2.")
# strategy, ranks, devices per process; with Keras 2 a layout of each strategy suffices
LAYOUTS = [
    ("horovod", 2, 1),
    ("horovod", 3, 1),
    ("horovod", 4, 1),
    ("mirrored", 2, 2),
    ("multi_worker", 2, 1),
    ("multi_worker", 4, 2),
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Each case on a single rank, and a run that was stopped in its first epoch."""
    folder = tmp_path_factory.mktemp("single")
    runs = {name: make_run(folder, experiment(case, "single", 1)) for name, case in CASES.items()}
    if not KERAS_2:
        runs["compiled"] = make_run(folder, experiment(CASES["every_layer"], "single", 1, jit_compile=True))
    stopped = make_run(folder, experiment(CASES["every_layer"], "single", 1, telemetry_window_steps=3))
    stopped.request_stop("test", "test")
    runs["poisoned"] = make_run(folder, experiment(POISONED, "single", 1, **ROLLED_BACK))
    same = experiment(CASES["every_layer"], "single", 1, deterministic=True, precision="float32", max_steps=6)
    equal = {name: make_run(folder, same) for name in ("equal", "equal too")}
    train(1, *runs.values(), stopped, *equal.values())
    return {**runs, **equal, "stopped": stopped}


def test_deterministic_runs_are_equal_in_every_bit(reference: dict[str, RunFolder]) -> None:
    first, second = (final(reference[name]) for name in ("equal", "equal too"))
    assert first.keys() == second.keys() and any(name.startswith("average/") for name in first)
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("strategy", "ranks", "devices"), LAYOUTS if not KERAS_2 else [LAYOUTS[at] for at in (1, 3, 5)]
)
def test_every_strategy_takes_the_same_steps_as_one_rank(
    strategy: str, ranks: int, devices: int, reference: dict[str, RunFolder], tmp_path: Path
) -> None:
    runs = {
        name: make_run(tmp_path, experiment(case, strategy, ranks, devices), export=name != "plain")
        for name, case in CASES.items()
    }
    if (strategy, ranks) == ("horovod", 2) and not KERAS_2:
        runs["compiled"] = make_run(tmp_path, experiment(CASES["every_layer"], strategy, 2, jit_compile=True))
    resumed = copied(reference["stopped"], tmp_path, experiment(CASES["every_layer"], strategy, ranks, devices))
    unhealthy = _unhealthy(tmp_path) if (strategy, ranks) == ("multi_worker", 2) else []
    train(ranks // devices, *runs.values(), resumed, *unhealthy)
    if unhealthy:
        _are_noticed(unhealthy, reference["poisoned"])
    for name, run in runs.items():
        limit = LIMITS[str(run.experiment().train.precision)]
        assert distance(final(run), final(reference[name])) <= limit, name
        assert _metrics(run) == pytest.approx(_metrics(reference[name]), rel=1e-4), name
    named = {"auc", "f1_score", "top_2"} if not KERAS_2 else {"mean_absolute_error"}
    assert named | {f"val_{name}" for name in named} <= _metrics(runs["every_layer"]).keys()
    assert _midway(runs["every_layer"]) == pytest.approx(_midway(reference["every_layer"]), rel=1e-9)
    assert (runs["every_layer"].export / "export.json").is_file()
    signature = json.loads((runs["two_outputs"].export / "export.json").read_text())["signature"]
    assert set(signature["inputs"]) == {"image", "kind"} and set(signature["outputs"]) == {"outputs", "label", "size"}
    assert {"label_loss", "size_loss", "label_accuracy", "val_size_mean_absolute_error"} <= _metrics(
        runs["two_outputs"]
    ).keys()
    _went_on(resumed, reference["every_layer"])


@pytest.mark.keras(3)
def test_central_storage_takes_the_same_steps(reference: dict[str, RunFolder], tmp_path: Path) -> None:
    run = make_run(tmp_path, experiment(CASES["every_layer"], "central_storage", 2, 2))
    train(1, run)
    assert distance(final(run), final(reference["every_layer"])) <= 1e-10


@pytest.mark.mpi
@pytest.mark.keras(3)
def test_synchronous_parameter_servers_take_the_same_steps(reference: dict[str, RunFolder], tmp_path: Path) -> None:
    def on_servers(name: str) -> Experiment:
        together = {"servers": 2, "synchronous": True}
        return experiment(CASES[name], "parameter_server", 2, beside=3, parameter_server=together)

    runs = {name: make_run(tmp_path, on_servers(name), export=name == "two_outputs") for name in CASES}
    resumed = copied(reference["stopped"], tmp_path, on_servers("every_layer"))
    train(5, *runs.values(), resumed)
    for name, run in runs.items():
        limit = LIMITS[str(run.experiment().train.precision)]
        assert distance(final(run), final(reference[name])) <= limit, name
        assert _metrics(run) == pytest.approx(_metrics(reference[name]), rel=1e-4), name
    assert _midway(runs["every_layer"]) == pytest.approx(_midway(reference["every_layer"]), rel=1e-9)
    assert (runs["two_outputs"].export / "export.json").is_file()
    _went_on(resumed, reference["every_layer"])


def test_a_stop_in_the_middle_of_an_epoch_leaves_a_checkpoint_there(reference: dict[str, RunFolder]) -> None:
    [left] = checkpoints.find(reference["stopped"].checkpoints)
    position, _, _ = left.read()
    assert (position.step, position.epoch, position.batch) == (1, 0, 1)


def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    reference: dict[str, RunFolder], tmp_path: Path
) -> None:
    case = CASES["every_layer"]
    whole = make_run(tmp_path, experiment(case, "single", 1, checkpoint={"every_steps": 4, "keep": 9}, max_steps=10))
    train(1, whole)
    found = [checkpoint.step for checkpoint in checkpoints.find(whole.checkpoints)]
    assert found == [10, 8, 7, 4]
    damaged = copied(whole, tmp_path, experiment(case, "single", 1))
    [part] = (damaged.checkpoints / "step-00000010").glob("part-*.npz")
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    (damaged.checkpoints / "step-00000008" / "checkpoint.json").write_text('{"schema": 1, "posi')
    train(1, damaged)
    problems = [event.facts["path"] for event in damaged.events() if event.kind == "damaged_checkpoint"]
    assert problems == ["step-00000010", "step-00000008"]
    _went_on(damaged, reference["every_layer"], at=7)


def _unhealthy(folder: Path) -> list[RunFolder]:
    """Two runs of multi_worker: an example is not a number; the memory of a rank loses a bit. The second fails."""
    poisoned = make_run(folder, experiment(POISONED, "multi_worker", 2, compare_ranks_every=2, **ROLLED_BACK))
    case = {**CASES["plain"], "model": {"build": "training_cases:corrupted"}}
    wanted = {"epochs": 6, "compare_ranks_every": 5, "checkpoint": {"every_epochs": 1, "keep": 50}}
    corrupted = make_run(folder, experiment(case, "multi_worker", 2, **wanted))
    (corrupted.path / "control" / "fails").touch()
    return [poisoned, corrupted]


def _are_noticed(unhealthy: list[RunFolder], alone: RunFolder) -> None:
    poisoned, corrupted = unhealthy
    found, expected = (
        [event.facts for event in run.events() if event.kind == "nonfinite"] for run in (poisoned, alone)
    )
    assert [each["step"] for each in found] == [each["step"] for each in expected] and expected
    assert all("kernel" in each["variable"] and len(each["ranks"]) == 1 for each in found)
    assert distance(final(poisoned), final(alone)) <= 1e-4
    [differs] = [event.facts for event in corrupted.events() if event.kind == "diverged"]
    assert differs["ranks"] == [0, 1]  # of two, nobody can say which is right
    assert checkpoints.find(corrupted.checkpoints)[0].step == 21  # the one before


def _went_on(run: RunFolder, reference: RunFolder, at: int = 1) -> None:
    [resumed] = [event for event in run.events() if event.kind == "resumed"]
    assert resumed.facts["step"] == at
    assert distance(final(run), final(reference)) <= 1e-10
    assert _metrics(run) == pytest.approx(_metrics(reference), rel=1e-9)


def _midway(run: RunFolder) -> list[float]:
    """The losses of the validations within epochs."""
    found = [event.facts for event in run.events() if event.kind == "validated"]
    assert [each["step"] for each in found] == [5, 10, 15, 20]
    return [each["metrics"]["val_loss"] for each in found]


def _metrics(run: RunFolder) -> dict[str, float]:
    [last] = [event.facts for event in run.events() if event.kind == "epoch" and event.facts["step"] == STEPS]
    return dict(last["metrics"])
