"""A FIFO, a device or a folder in the place of a file of a shared folder hangs no command that looks at all runs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from saman.configs import yaml12
from saman.configs.errors import UserError
from saman.configs.regular_files import read_regular
from saman.configs.schemas.experiment import Experiment
from saman.jobs.logs import read_logs
from saman.jobs.prune.choice import plan_prune
from saman.jobs.prune.plan import PruneRequest
from saman.jobs.reconcile import reconcile
from saman.jobs.status import read_status
from saman.runs.find import find_run, find_runs
from saman.runs.folder import RunFolder
from saman.runs.growing_files import last_lines
from saman.runs.remote.remote_runs import remote_runs
from saman.runs.telemetry.reader import read_telemetry

pytestmark = pytest.mark.timeout(30)  # a command that hangs fails

EXPERIMENT = Experiment.model_validate(
    {
        "name": "tiny", "model": {"build": "mlp"}, "data": {"source": "digits"},
        "train": {"strategy": "single", "global_batch_size": 8},
    }
)  # fmt: skip
PLANTS: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "endless device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/tty"),
    "folder": Path.mkdir,
    "dangling link": lambda path: path.symlink_to("/nowhere"),
    "loop": lambda path: path.symlink_to(path),
}
NAMES = (
    "events.jsonl", "state.json", "summary.json", "tracking.json", "attempts/1/placement.json",
    "attempts/1/ranks/00000.heartbeat.json", "attempts/1/ranks/00000.json", "attempts/1/ranks/00000.log",
    "attempts/1/telemetry/00000.jsonl", "attempts/1/nodes/00000.state", "attempts/1/nodes/00000.jsonl",
    "attempts/1/nodes/00000.log", "attempts/1/nodes", "control/stop", "control/supervisor", "slurm/job.out",
    "control/.supervisor.lease", "study.json", "secrets.json", "remote.json",
)  # fmt: skip


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for _ in range(2):
        run = RunFolder.create(tmp_path / "runs", EXPERIMENT)
        attempt = run.new_attempt()
        run.append("attempt_started", "supervisor", 1, host="here", ranks=1, method="processes", nodes=["here"])
        attempt.heartbeat(0).write_text("{}")
        attempt.log(0).write_text("hello\n")
        run.slurm.path.mkdir()
        run.supervisor_lock.touch()
    return tmp_path / "runs"


@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", NAMES)
def test_a_planted_file_hangs_no_command(name: str, plant: str, runs: Path) -> None:
    target = find_runs(runs)[0].path / name
    target.rmdir() if target.is_dir() else target.unlink(missing_ok=True)
    PLANTS[plant](target)
    assert len(read_status(find_runs(runs))) == 2
    assert len(reconcile(find_runs(runs))) == 2
    assert find_run("last", runs).path == find_runs(runs)[1].path
    bad = RunFolder(find_runs(runs)[0].path)
    read_telemetry(bad.path)
    last_lines(bad.attempt(1).log(0))
    with contextlib.suppress(UserError):
        list(read_logs(bad))
    remote_runs(runs)
    assert len(plan_prune(runs, runs.parent / "models", PruneRequest()).kept) == 2


@pytest.mark.parametrize("plant", PLANTS)
def test_only_a_regular_file_is_read(plant: str, tmp_path: Path) -> None:
    PLANTS[plant](tmp_path / "planted.yaml")
    with pytest.raises(OSError):
        read_regular(tmp_path / "planted.yaml")
    with pytest.raises(UserError):
        yaml12.read(tmp_path / "planted.yaml")


def test_a_link_to_a_regular_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert read_regular(tmp_path / "link") == b"content"
