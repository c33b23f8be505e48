"""The contract for pipelines: every grid of stages × replicas takes the same optimiser steps as one rank."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pipeline_cases import CASES, on_grid
from rank_starts import copied, distance, experiment, final, make_run, train

from saman.runs.files.whole import read_lines
from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.ranks, pytest.mark.slow]
EXPORTED = ("skips", "inputs", "half")
LIMITS = {"float32": 1e-4, "float64": 1e-10, "mixed_float16": 1e-4, "mixed_bfloat16": 1e-4}
EVERY = ("skips", "masks", "layers", "inputs", "attention")
# stages, replicas, how, cases
GRIDS: list[tuple[int, int, dict[str, object], tuple[str, ...]]] = [
    (2, 1, {"order": "gpipe", "transport": "mpi"}, ("skips", "mlp", "cnn", "half", "brain", "stop")),
    (3, 1, {"recompute": True}, ("skips", "layers")),
    (4, 1, {}, ("skips", "masks")),
    (2, 2, {}, (*EVERY, "mlp", "cnn")),
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Each case on a single rank with the same micro-batches."""
    folder = tmp_path_factory.mktemp("single")
    runs = {name: make_run(folder, experiment(case, "single", 1)) for name, (case, _) in CASES.items()}
    train(1, *runs.values())
    return runs


def _grid_runs(
    folder: Path, stages: int, replicas: int, how: dict[str, object], cases: tuple[str, ...] = EVERY
) -> dict[str, RunFolder]:
    def run(name: str) -> RunFolder:
        case, cuts = CASES[name]
        what = on_grid(case, stages, replicas, {"cuts": cuts[stages], **how})
        return make_run(folder, what, export=name in EXPORTED)

    return {name: run(name) for name in cases}


def _unlike(runs: dict[str, RunFolder], reference: dict[str, RunFolder]) -> list[str]:
    """Differences between runs and their references: weights beyond the limit, metrics, an unchecked export."""
    found = []
    for name, run in runs.items():
        limit = LIMITS[str(run.experiment().train.precision)]
        if (apart := distance(final(run), final(reference[name]))) > limit:
            found.append(f"{name}: weights by {apart:.1e}")
        if _metrics(run) != pytest.approx(_metrics(reference[name]), rel=1e-4):
            found.append(f"{name}: metrics {_metrics(run)}, {_metrics(reference[name])}")
        # the exported model was loaded and compared with the stages
        if name in EXPORTED and not json.loads((run.export / "export.json").read_text())["checked"]:
            found.append(f"{name}: its export was not checked")
    return found


def _metrics(run: RunFolder) -> dict[str, float]:
    return dict([event.facts for event in run.events() if event.kind == "epoch"][-1]["metrics"])


@pytest.mark.mpi
@pytest.mark.parametrize(("stages", "replicas", "how", "cases"), GRIDS)
def test_every_grid_takes_the_same_steps_as_one_rank(
    stages: int,
    replicas: int,
    how: dict[str, object],
    cases: tuple[str, ...],
    reference: dict[str, RunFolder],
    tmp_path: Path,
) -> None:
    runs = _grid_runs(tmp_path, stages, replicas, how, cases)
    resumed = []
    if replicas == 2:  # continues what another number of replicas left in the middle of an epoch
        case, cuts = CASES["skips"]
        left = make_run(tmp_path, on_grid(case, 2, 1, {"cuts": cuts[2]}, telemetry_window_steps=3))
        left.request_stop("test", "test")
        train(2, left)
        resumed = [copied(left, tmp_path, on_grid(case, 2, 2, {"cuts": cuts[2]}))]
    train(stages * replicas, *runs.values(), *resumed)
    assert _unlike(runs, reference) == []
    for run in resumed:
        [event] = [event for event in run.events() if event.kind == "resumed"]
        assert event.facts["step"] == 1
        assert distance(final(run), final(reference["skips"])) <= 1e-10
    _telemetry_tells_stages(runs["skips"], stages, replicas)


@pytest.mark.parametrize("stages", [3])
def test_stages_on_the_devices_of_one_process_take_the_same_steps(
    stages: int, reference: dict[str, RunFolder], tmp_path: Path
) -> None:
    runs = _grid_runs(tmp_path, stages, 1, {"devices": "local"})
    train(1, *runs.values())
    assert _unlike(runs, reference) == []


def _telemetry_tells_stages(run: RunFolder, stages: int, replicas: int) -> None:
    """Each example counts once; each stage reports its waiting time."""
    lines = {rank: read_lines(run.attempt(1).telemetry(rank))[0] for rank in range(stages * replicas)}
    for rank, windows in lines.items():
        assert all(window["stage"] == rank % stages and window["bubble_seconds"] >= 0 for window in windows)
    samples = sum(window["samples"] for windows in lines.values() for window in windows)
    assert samples == 3 * (24 * 6 + 5)
