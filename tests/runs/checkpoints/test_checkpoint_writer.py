"""A checkpoint is written beside the training: one at a time, hashed as it is written, whole, never silently lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import EnvironmentLack, ExitCode
from saman.runs.checkpoints import CheckpointPlan, CheckpointWriter, SavedCheckpoint, TrainingPosition, find, parts
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.records.training_facts import TrainingFacts


class Disk:
    """``os.fsync`` of files, which can be held up or broken."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free, self.entered, self.error = threading.Event(), threading.Event(), 0
        self.free.set()
        self._sync = os.fsync
        monkeypatch.setattr(os, "fsync", self._fsync)

    def _fsync(self, descriptor: int) -> None:
        self.entered.set()
        assert self.free.wait(20)
        if self.error:
            raise OSError(self.error, os.strerror(self.error))
        self._sync(descriptor)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    made = Disk(monkeypatch)
    yield made
    made.free.set()


def plan(folder: Path, part: int | None = 0, parts: int = 1, **values: Any) -> CheckpointPlan:
    settings = {"publishes": part == 0, "record": lambda saved: None, "keep": 2, **values}
    return CheckpointPlan(folder=folder, facts=TrainingFacts(seed=1), part=part, parts=parts, **settings)


def at(step: int) -> TrainingPosition:
    return TrainingPosition(step=step)


def state(step: int, name: str = "w") -> dict[str, np.ndarray]:
    return {name: np.full(7, step, "float32")}


def steps(folder: Path) -> list[int]:
    return [checkpoint.step for checkpoint in find(folder)]


def test_the_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, disk: Disk) -> None:
    saved: list[SavedCheckpoint] = []
    writer = CheckpointWriter(plan(tmp_path, record=saved.append))
    disk.free.clear()
    writer.begin(at(10), lambda: state(10))  # returns although the disk does not
    writer.raise_failure()
    assert disk.entered.wait(20) and steps(tmp_path) == [] and saved == []
    disk.free.set()
    writer.finish()
    assert [about.checkpoint.step for about in saved] == steps(tmp_path) == [10]
    assert find(tmp_path)[0].read()[1]["w"].tolist() == [10] * 7


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives threads a priority of their own")
@pytest.mark.parametrize("last", [False, True])
def test_the_training_computes_first_unless_it_waits_for_its_last_checkpoint(tmp_path: Path, last: bool) -> None:
    priorities = []

    def record(saved: SavedCheckpoint) -> None:
        priorities.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))

    mine = os.getpriority(os.PRIO_PROCESS, 0)
    writer = CheckpointWriter(plan(tmp_path, record=record))
    writer.begin(at(1), lambda: state(1), last=last)
    writer.finish()
    [priority] = priorities
    assert (priority == mine) is last and os.getpriority(os.PRIO_PROCESS, 0) == mine


def test_the_next_checkpoint_waits_for_the_pending_one_before_it_takes_its_snapshot(tmp_path: Path, disk: Disk) -> None:
    writer, seen = CheckpointWriter(plan(tmp_path)), []
    disk.free.clear()
    writer.begin(at(1), lambda: state(1))

    def snapshot() -> dict[str, np.ndarray]:
        seen.append(steps(tmp_path))
        return state(2)

    threading.Timer(0.1, disk.free.set).start()
    writer.begin(at(2), snapshot)
    writer.finish()
    assert seen == [[1]] and steps(tmp_path) == [2, 1]


@pytest.mark.parametrize("notices", ["raise_failure", "begin", "finish"])
def test_a_write_that_fails_ends_the_run_as_a_failing_write_always_did(
    tmp_path: Path, disk: Disk, notices: str
) -> None:
    writer = CheckpointWriter(plan(tmp_path))
    writer.begin(at(1), lambda: state(1))
    writer.finish()
    disk.error = errno.ENOSPC
    writer.begin(at(2), lambda: state(2))
    with pytest.raises(EnvironmentLack) as ended, explain_write_errors(tmp_path, "the run folder"):
        if notices == "begin":
            writer.begin(at(3), lambda: state(3))
        elif notices == "finish":
            writer.finish()
        else:
            until = time.monotonic() + 20
            while time.monotonic() < until:
                writer.raise_failure()
    assert ended.value.exit_code == ExitCode.ENVIRONMENT and "the disk is full" in str(ended.value)
    assert steps(tmp_path) == [1] and find(tmp_path)[0].read()[1]["w"][0] == 1
    left = [path.name for path in tmp_path.rglob("*") if path.is_file() and "step-00000002" in str(path)]
    assert left == []  # the space is free again, for the record of the end


def test_a_checkpoint_is_visible_only_when_the_parts_of_all_processes_are_there(tmp_path: Path) -> None:
    chief, other = CheckpointWriter(plan(tmp_path, 0, 3)), CheckpointWriter(plan(tmp_path, 1, 3))
    chief.begin(at(5), lambda: state(5, "a"))
    other.begin(at(5), lambda: state(5, "b"))
    other.finish()
    time.sleep(0.1)
    assert steps(tmp_path) == []
    late = CheckpointWriter(plan(tmp_path, 2, 3))
    late.begin(at(5), lambda: state(5, "c"))
    late.finish()
    chief.finish()
    assert steps(tmp_path) == [5] and sorted(find(tmp_path)[0].read()[1]) == ["a", "b", "c"]


def test_the_manifest_names_every_part_with_its_size_and_digest_and_nothing_is_read_back(tmp_path: Path) -> None:
    opened: list[str] = []

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event == "open" and "part-" in str(arguments[0]) and not arguments[2] & os.O_WRONLY:
            opened.append(str(arguments[0]))

    listening = True
    sys.addaudithook(hear)
    other = CheckpointWriter(plan(tmp_path, 1, 2))
    other.begin(at(1), lambda: {"b": np.arange(600_000)})
    chief = CheckpointWriter(plan(tmp_path, 0, 2))
    chief.begin(
        at(1), lambda: {"a": np.arange(12.0).reshape(3, 4).T, "scalar": np.float32(3), "none": np.zeros((0, 2))}
    )
    other.finish()
    chief.finish()
    listening = False
    assert opened == []
    folder = find(tmp_path)[0].path
    files = json.loads((folder / "checkpoint.json").read_text())["files"]
    assert {path.name for path in folder.iterdir()} == {*files, "checkpoint.json"} and len(files) == 2
    for name, about in files.items():
        content = (folder / name).read_bytes()
        assert about == {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    arrays = find(tmp_path)[0].read()[1]
    assert arrays["a"].tolist() == np.arange(12.0).reshape(3, 4).T.tolist() and arrays["b"].sum() == 179_999_700_000
    assert arrays["scalar"].shape == () and arrays["scalar"] == 3 and arrays["none"].shape == (0, 2)
    with np.load(folder / min(files)) as plain:  # for other programs: an ordinary archive of arrays
        assert sorted(plain.files) == ["a", "none", "scalar"]


def test_old_checkpoints_go_as_a_whole_and_the_best_stays(tmp_path: Path) -> None:
    writers = [CheckpointWriter(plan(tmp_path, part, 2, keep=2)) for part in range(2)]
    for step in range(1, 6):
        for name, writer in zip("ab", writers, strict=True):
            writer.begin(TrainingPosition(step=step, best_step=2), lambda step=step, name=name: state(step, name))
        for writer in writers:
            writer.finish()
    assert steps(tmp_path) == [5, 4, 2]
    assert all(len(list(checkpoint.path.glob("part-*"))) == 2 for checkpoint in find(tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-0000000{step}" for step in (2, 4, 5)]


def test_the_memory_of_an_array_is_free_once_it_is_written(tmp_path: Path, disk: Disk) -> None:
    arrays = {name: np.zeros(10) for name in "abc"}
    disk.free.clear()
    writer = CheckpointWriter(plan(tmp_path))
    writer.begin(at(1), lambda: arrays)
    assert disk.entered.wait(20) and arrays == {}
    disk.free.set()
    writer.finish()


def test_python_objects_are_refused_before_anything_could_be_read_back_as_a_pickle(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Python objects"):
        parts.write(tmp_path, 0, {"w": np.array([object()])})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_of_an_older_saman_is_read(tmp_path: Path) -> None:
    """Written here as saman 0.1 wrote it: schema 1, one part, its digest and no size."""
    folder = tmp_path / "step-00000042"
    folder.mkdir()
    np.savez(folder / "part-00000.npz", **{"weight/0000": np.arange(5.0)})
    digest = hashlib.sha256((folder / "part-00000.npz").read_bytes()).hexdigest()
    position = {"step": 42, "epoch": 3, "batch": 0, "epoch_sums": [0.0] * 4, "best": None, "best_step": None}
    position |= {"without_improvement": 0, "metrics": {"loss": 0.5}, "ended": False}
    header = {"schema": 1, "position": position, "facts": {"seed": 9}, "files": {"part-00000.npz": digest}}
    (folder / "checkpoint.json").write_text(json.dumps(header))
    found, arrays, facts = find(tmp_path)[0].read()
    assert (found.step, found.epoch, found.metrics, facts.seed) == (42, 3, {"loss": 0.5}, 9)
    assert arrays["weight/0000"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("files", [{"../secret.npz": "0" * 64}, {"/etc/passwd": "0" * 64}, {"p.npz": 3}, ["p.npz"]])
def test_a_manifest_that_names_something_else_than_files_beside_it_is_damage(tmp_path: Path, files: Any) -> None:
    writer = CheckpointWriter(plan(tmp_path))
    writer.begin(at(1), lambda: state(1))
    writer.finish()
    manifest = find(tmp_path)[0].path / "checkpoint.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "files": files}))
    with pytest.raises(parts.DamagedCheckpoint):
        find(tmp_path)[0].read()


def test_an_array_in_pieces_is_read_whole_and_a_lost_piece_is_damage(tmp_path: Path) -> None:
    whole = np.arange(12.0).reshape(3, 4)
    pieces = {0: {"w[0:7]": whole.reshape(-1)[:7]}, 1: {"w[7:12]": whole.reshape(-1)[7:], "v": np.zeros(2)}}
    for part in (1, 0):
        writer = CheckpointWriter(plan(tmp_path, part, 2, divided={"w": (3, 4)}))
        writer.begin(at(1), lambda part=part: pieces[part])
        writer.finish()
    [checkpoint] = find(tmp_path)
    checkpoint.verify()
    arrays = checkpoint.read()[1]
    assert sorted(arrays) == ["v", "w"] and arrays["w"].tolist() == whole.tolist()
    manifest = checkpoint.path / "checkpoint.json"
    header = json.loads(manifest.read_text())
    header["files"].popitem()
    manifest.write_text(json.dumps(header))
    for read in (checkpoint.read, checkpoint.verify):
        with pytest.raises(parts.DamagedCheckpoint, match="w"):
            read()
