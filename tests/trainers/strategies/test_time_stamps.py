"""Input wait, own work and exchange are measured in every step, on every strategy; a rank that becomes slow shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rank_starts import experiment, make_run, train
from training_cases import CASES

from saman.runs.folder import RunFolder
from saman.runs.telemetry.reader import read_telemetry
from saman.runs.telemetry.slow_spans import slow_spans
from saman.runs.telemetry.window import Window, read_windows

pytestmark = [pytest.mark.ranks, pytest.mark.slow]

PLAIN: dict[str, Any] = CASES["plain"]
UNEVEN: dict[str, Any] = {**PLAIN, "model": {"build": "training_cases:uneven"}}
EPOCHS = 14  # of seven steps, the last with a short batch


def _trained(case: dict[str, Any], strategy: str, folder: Path) -> RunFolder:
    once = {"every_epochs": None}
    what = experiment(case, strategy, 2, epochs=EPOCHS, telemetry_window_steps=2, checkpoint=once)
    run = make_run(folder, what)
    train(1 if strategy == "mirrored" else 2, run)
    return run


def _windows(run: RunFolder, rank: int) -> list[Window]:
    return [window for window in read_windows(run, rank)[0] if not window.compiled]


@pytest.mark.parametrize("strategy", ["mirrored", pytest.param("horovod", marks=pytest.mark.mpi)])
def test_the_parts_of_every_window_are_measured_and_never_exceed_it(strategy: str, tmp_path: Path) -> None:
    run = _trained(PLAIN, strategy, tmp_path)
    for rank in (0, 1) if strategy == "horovod" else (0,):
        windows = _windows(run, rank)
        assert len(windows) > EPOCHS
        for window in windows:
            assert window.exchange_seconds is not None
            assert window.exchange_seconds > 0
            assert window.exchange_seconds + window.input_wait_seconds <= window.seconds
            assert window.cpu_seconds is not None and window.cpu_seconds > 0
        assert any(window.own_deviation_seconds for window in windows)
        assert len({window.exchange_seconds for window in windows}) > len(windows) / 2  # measured, not copied


@pytest.mark.mpi
@pytest.mark.parametrize("strategy", ["horovod", "multi_worker"])
def test_a_rank_that_becomes_slow_is_named(strategy: str, tmp_path: Path) -> None:
    """Rank 1 sleeps 100 ms in the forward pass from step 31 on; rank 0 waits for it in the exchange."""
    run = _trained(UNEVEN, strategy, tmp_path)
    found = read_telemetry(run.path, 2)
    assert found.exchange_per_step is not None
    late = [window for window in _windows(run, 0) if window.step > 40]
    waits = [window.exchange_seconds / window.steps for window in late if window.exchange_seconds is not None]
    assert sorted(waits)[len(waits) // 2] > 0.05
    slow = [span for span in slow_spans(found.processes, {0: "here", 1: "here"}) if span.straggler.rank == 1]
    assert slow and max(span.end for span in slow) > 80
