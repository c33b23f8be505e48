"""A straggler is named by rank and node: over a run, in the part of a run in which it was slow, while it happens."""

from __future__ import annotations

import doctest
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic import Made, write_run

import saman.runs.telemetry.stragglers
from saman.configs.schemas.experiment import Experiment
from saman.jobs.progress import read_progress
from saman.launcher.plan.placement import Placement, Process
from saman.runs.folder import RunFolder
from saman.runs.ranks.heartbeats import Beat, Heartbeat, read_beat, write_beat
from saman.runs.telemetry.stragglers import stragglers
from saman.scaling.analysis.analysis import Analysis, analyse
from saman.scaling.analysis.findings import FindingKind
from saman.scaling.analysis.results import read_run, read_runs
from saman.scaling.analysis.run_values import MeasuredRun

MADE = Made(ranks=8, nodes=2, step_seconds=0.1, exchange_seconds=0.02, noise=0.01, between=0, windows=41, warmup=0)


def _change(path: Path, rank: int, change: Any) -> None:
    """Rewrite the telemetry of a rank; ``change`` gets the index of a line and the line."""
    file = path / "attempts" / "1" / "telemetry" / f"{rank:05d}.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps({**line, **change(index, line)}) + "\n" for index, line in enumerate(lines)))


def _found(path: Path) -> Analysis:
    return analyse(read_runs([path]))


def test_a_rank_that_becomes_slow_late_is_named_with_its_node_and_steps(tmp_path: Path) -> None:
    """Its steps last as long as those of the others; only its exchange is short, because nobody keeps it waiting."""
    path = write_run(tmp_path / "20260101-000000-000000", MADE)
    _change(path, 5, lambda index, line: {"exchange_seconds": 0.01 if index >= 30 else line["exchange_seconds"]})
    (note,) = (finding for finding in _found(path).findings if finding.kind is FindingKind.STRAGGLER)
    assert note.note
    assert "rank 5 on n1" in note.text
    steps = note.text.rpartition("in steps ")[2].split(" to ")
    assert 250 <= int(steps[0]) <= 350 and steps[1] == "410"
    run = read_run(path)
    assert isinstance(run, MeasuredRun)
    whole = {process.rank: process.busy_seconds for process in run.measured.processes}
    assert not stragglers(whole, {})  # medians over the whole run hide it


def test_a_rank_that_waits_for_its_input_holds_up_the_others_too(tmp_path: Path) -> None:
    path = write_run(tmp_path / "20260101-000000-000000", MADE)
    late = {"exchange_seconds": 0.01, "input_wait_seconds": 0.2}
    _change(path, 2, lambda index, line: late)
    (note,) = (finding for finding in _found(path).findings if finding.kind is FindingKind.STRAGGLER)
    assert "rank 2 on n0" in note.text


def test_even_ranks_are_no_finding(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    path = write_run(tmp_path / "20260101-000000-000000", MADE)
    for rank in range(8):
        _change(path, rank, lambda index, line: {"exchange_seconds": 0.2 * float(np.exp(rng.normal(0, 0.1)))})
    assert FindingKind.STRAGGLER not in {finding.kind for finding in _found(path).findings}


def test_an_exchange_longer_than_the_step_is_a_finding_and_no_own_work_is_negative(tmp_path: Path) -> None:
    """150 ms measured once before the training, copied into windows of steps of 99 ms."""
    path = write_run(tmp_path / "20260101-000000-000000", replace(MADE, step_seconds=0.099, exchange_seconds=0.15))
    found = _found(path)
    (impossible,) = (finding for finding in found.findings if finding.kind is FindingKind.IMPOSSIBLE_EXCHANGE)
    assert not impossible.note
    (run,) = found.measured_runs
    assert run.measured.exchange_seconds is None
    assert all(0 <= process.own_seconds <= process.seconds for process in run.measured.processes)
    assert found.curves[0].points[0].breakdown.exchange is None


def test_own_work_excludes_exchange_and_input_wait(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", replace(MADE, noise=0, input_wait_seconds=0.01)))
    assert isinstance(run, MeasuredRun)
    for process in run.measured.processes:
        assert process.own_seconds == pytest.approx(0.1 - 0.02 - 0.01)
        assert process.busy_seconds == pytest.approx(0.1 - 0.02)


@pytest.mark.parametrize("ranks", [2, 3, 4, 64, 2000])
def test_the_slow_rank_of_any_number_is_found(ranks: int) -> None:
    rng = np.random.default_rng(ranks)
    busy = {rank: 0.1 * float(np.exp(rng.normal(0, 0.002))) for rank in range(ranks)}
    busy[ranks - 1] *= 1.4
    (slow,) = stragglers(busy, {ranks - 1: "n9"})
    assert (slow.rank, slow.node) == (ranks - 1, "n9")
    assert slow.slower == pytest.approx(0.4, abs=0.02)


@pytest.mark.parametrize("ranks", [2, 3, 4, 5, 8, 64])
def test_the_slow_rank_among_exactly_equal_ones_is_found(ranks: int) -> None:
    (slow,) = stragglers({**dict.fromkeys(range(ranks), 0.1), ranks - 1: 0.14}, {})
    assert slow.rank == ranks - 1


def test_equal_ranks_and_single_ranks_are_no_stragglers() -> None:
    assert stragglers({0: 0.1}, {}) == []
    assert stragglers({0: 0.0, 1: 0.0}, {}) == []
    assert stragglers(dict.fromkeys(range(16), 0.1), {}) == []
    assert doctest.testmod(saman.runs.telemetry.stragglers).failed == 0


# ---- while it happens ------------------------------------------------------------------------------------------


@pytest.fixture
def running(tmp_path: Path) -> RunFolder:
    """A run of 600 ranks on 6 nodes in the middle of its training."""
    experiment = {
        "name": "made", "data": {"source": "digits"}, "model": {"build": "mlp"},
        "train": {"strategy": "single", "global_batch_size": 100},
    }  # fmt: skip
    run = RunFolder.create(tmp_path, Experiment.model_validate(experiment))
    attempt = run.new_attempt()
    processes = tuple(Process(rank, f"n{rank // 100}", rank % 100, rank, 1) for rank in range(600))
    Placement(processes, 1).write(attempt.placement)
    rng = np.random.default_rng(1)
    for rank in range(600):
        busy = 0.1 * float(np.exp(rng.normal(0, 0.004)))
        write_beat(attempt.heartbeat(rank), Beat("train", step=90, alive=time.time(), busy_seconds=busy))
    return run


def test_status_names_a_straggler_while_the_run_goes_on(running: RunFolder) -> None:
    attempt = running.attempt(1)
    before = read_progress(running, time.time())
    assert before is not None and before.stragglers == ()
    write_beat(attempt.heartbeat(431), Beat("train", step=90, alive=time.time(), busy_seconds=0.17))
    found = read_progress(running, time.time())
    assert found is not None
    assert [(slow.rank, slow.node) for slow in found.stragglers] == [(431, "n4")]
    assert "rank 431 on n4 is 70% slower than its peers" in found.sentence()


def test_stages_of_a_pipeline_are_compared_with_their_replicas_only(running: RunFolder) -> None:
    attempt = running.attempt(1)
    for rank in range(600):
        busy = 0.1 if rank % 2 else 0.3
        write_beat(attempt.heartbeat(rank), Beat("train", alive=time.time(), busy_seconds=busy, stage=rank % 2))
    found = read_progress(running, time.time())
    assert found is not None and found.stragglers == ()


def test_a_heartbeat_keeps_its_pace_between_steps(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "beat.json")
    heartbeat.note_pace(0.12, 1)
    heartbeat.beat("train", 7, 1, 100)
    heartbeat.close()
    beat = read_beat(tmp_path / "beat.json")
    assert beat is not None
    assert (beat.busy_seconds, beat.stage, beat.step, beat.total_steps) == (0.12, 1, 7, 100)
