"""Runs are read in parallel where files answer slowly, in the order that was asked for."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from saman.scaling.analysis import results


@pytest.mark.parametrize(("wait", "parallel"), [(0.002, True), (0.0, False)])
def test_slow_files_are_read_in_parallel_and_in_order(
    wait: float, parallel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: set[int] = set()

    def read(path: Path, warmup_windows: int) -> tuple[str, int]:
        threads.add(threading.get_ident())
        time.sleep(wait)
        return path.name, warmup_windows

    monkeypatch.setattr(results, "read_run", read)
    found = results.read_runs([Path(str(number)) for number in range(60)], 3)
    assert found == [(str(number), 3) for number in range(60)]
    assert len(threads) > 1 or not parallel


def test_no_runs_are_no_runs() -> None:
    assert results.read_runs([]) == []
