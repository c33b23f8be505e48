"""Power may fail at any moment: whole files stay whole, and a checkpoint that was taken can be resumed from."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from power_loss import Recorder, power_losses

from saman.runs import checkpoints
from saman.runs.checkpoints import CheckpointPlan, CheckpointWriter, TrainingPosition
from saman.runs.files.whole import write_whole
from saman.runs.records.training_facts import TrainingFacts

OLD, NEW = b"old content" * 50, b"new content" * 60


def _folder(tmp_path: Path) -> Path:
    (tmp_path / "live").mkdir()
    return tmp_path / "live"


def test_a_whole_file_holds_the_old_content_or_the_new_one_after_any_power_loss(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    (folder / "file").write_bytes(OLD)
    moments = Recorder(folder).record(lambda: write_whole(folder / "file", NEW))
    assert len(moments) >= 3
    for _, what, left in power_losses(moments, tmp_path):
        assert (left / "file").read_bytes() in (OLD, NEW), what


def test_a_new_file_is_whole_or_missing_after_any_power_loss(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    moments = Recorder(folder).record(lambda: write_whole(folder / "file", NEW))
    for _, what, left in power_losses(moments, tmp_path):
        assert not (left / "file").exists() or (left / "file").read_bytes() == NEW, what


@pytest.mark.parametrize("broken", ["write_text", "no fsync"])
def test_the_recorder_finds_a_write_that_is_not_safe(
    tmp_path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the check: without fsync, or without the rename, some power loss leaves neither old nor new."""
    folder = _folder(tmp_path)
    (folder / "file").write_bytes(OLD)

    def work() -> None:
        if broken == "write_text":
            (folder / "file").write_bytes(NEW)
        else:
            (folder / "draft").write_bytes(NEW)
            (folder / "draft").replace(folder / "file")

    left = [(each / "file").read_bytes() for _, _, each in power_losses(Recorder(folder).record(work), tmp_path)]
    assert any(content not in (OLD, NEW) for content in left)


FACTS = TrainingFacts()


def _take(folder: Path, step: int) -> None:
    """A checkpoint of two parts, as the chief and another rank write it beside their training."""
    for part in (1, 0):
        plan = CheckpointPlan(
            folder=folder,
            facts=FACTS,
            keep=1,
            part=part,
            parts=2,
            publishes=part == 0,
            record=lambda saved: None,
        )
        writer = CheckpointWriter(plan)
        writer.begin(TrainingPosition(step=step), lambda part=part: {f"w{part}": np.full(3, step, "float32")})
        writer.finish()


def test_after_any_power_loss_training_resumes_from_the_last_checkpoint_that_was_taken(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    steps = (1, 2, 3)
    moments = Recorder(folder).record(*(partial(_take, folder, step) for step in steps))
    for moment, what, left in power_losses(moments, tmp_path):
        sound = [checkpoint for checkpoint, damage in checkpoints.newest_sound(left) if damage is None]
        taken = 0 if not moment.done else steps[moment.done - 1]
        assert (sound[0].step if sound else 0) >= taken, what
        if sound:
            arrays = sound[0].read()[1]
            assert arrays["w0"][0] == arrays["w1"][0] == sound[0].step, what


def test_a_checkpoint_that_replaces_one_of_the_same_step_is_never_lost(tmp_path: Path) -> None:
    folder = _folder(tmp_path)
    _take(folder, 1)
    _take(folder, 2)
    moments = Recorder(folder).record(lambda: _take(folder, 2))
    missing = [
        what
        for moment, what, left in power_losses(moments, tmp_path)
        if moment.done and not [c for c, damage in checkpoints.newest_sound(left) if damage is None and c.step == 2]
    ]
    assert not missing, missing
