"""A short run of saman autotune: real ranks train with the settings of a point for a second, and leave a throughput."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.runs.events import State
from saman.runs.find import find_runs
from saman.tuning.machine.search import measure_run, prepare_search

pytestmark = [pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]


def test_a_short_run_measures_a_point_and_leaves_nothing_to_resume(tmp_path: Path) -> None:
    wanted = prepare_search("quickstart", ["train.strategy=horovod", "resources.cpus_per_rank=1"], 2)
    assert measure_run(wanted, tmp_path, 1.0, (3, 1, 0, 0)) > 0
    [run] = find_runs(tmp_path, "quickstart-autotune")
    assert run.state is State.CANCELLED
    assert not list(run.path.glob("checkpoints/*"))
    command = (run.path / "attempts" / "1" / "command.txt").read_text()
    for setting in ("HOROVOD_CYCLE_TIME=0.2", "TF_NUM_INTRAOP_THREADS=2", "OMP_NUM_THREADS=2"):
        assert setting in command
    assert run.experiment().resources.binding == "none"
