"""Checkpoints are whole or absent, whatever happens to their writer, and damage is seen."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.runs import checkpoints
from saman.runs.checkpoints import DamagedCheckpoint, TrainingPosition
from saman.runs.records.training_facts import TrainingFacts

SOURCE = Path(__file__).parents[3] / "src"
WRITER = """
import sys
from pathlib import Path
import numpy as np
from saman.runs import checkpoints
from saman.runs.records.training_facts import TrainingFacts
folder = Path(sys.argv[1])
checkpoints.discard_drafts(folder)
first = max((known.step for known in checkpoints.find(folder)), default=0)
for step in range(first + 1, 10_000):
    for part in range(2):
        checkpoints.write_part(folder, step, part, {f"w{part}": np.full(50_000, float(step))})
    checkpoints.publish(folder, checkpoints.TrainingPosition(step=step), 2, TrainingFacts(seed=1))
    checkpoints.discard(folder, keep=2, also=1)
"""


def written(folder: Path, step: int, **arrays: np.ndarray) -> checkpoints.Checkpoint:
    checkpoints.write_part(folder, step, 0, arrays)
    return checkpoints.publish(
        folder, TrainingPosition(step=step, epoch=1, batch=2, best=0.5), 1, TrainingFacts(seed=3)
    )


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path: Path) -> None:
    weights = np.arange(6, dtype="float64").reshape(2, 3)
    position, arrays, facts = written(tmp_path, 7, weights=weights).read()
    assert position == TrainingPosition(step=7, epoch=1, batch=2, best=0.5)
    assert (arrays["weights"] == weights).all() and arrays["weights"].dtype == "float64"
    assert facts == TrainingFacts(seed=3)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "header"])
def test_each_kind_of_damage_is_found_and_the_one_before_is_taken(tmp_path: Path, damage: str) -> None:
    written(tmp_path, 1, w=np.zeros(3))
    newest = written(tmp_path, 2, w=np.ones(3)).path
    [part] = newest.glob("part-00000-*.npz")
    content = part.read_bytes()
    if damage == "flip":
        part.write_bytes(content[:50] + bytes([content[50] ^ 1]) + content[51:])
    elif damage == "truncate":
        part.write_bytes(content[:-1])
    elif damage == "remove":
        part.unlink()
    else:
        (newest / "checkpoint.json").write_text("{")
    with pytest.raises(DamagedCheckpoint):
        checkpoints.Checkpoint(newest).read()
    (bad, problem), (good, nothing) = checkpoints.newest_sound(tmp_path)
    assert (bad.step, good.step, nothing) == (2, 1, None) and problem


@pytest.mark.slow
def test_a_writer_killed_at_any_moment_leaves_a_sound_newest_checkpoint(tmp_path: Path) -> None:
    reached = 0
    for kill in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], env={"PYTHONPATH": str(SOURCE), "PATH": ""}
        )
        while len(checkpoints.find(tmp_path)) == 0 or checkpoints.find(tmp_path)[0].step <= reached + 2:
            time.sleep(0.001)
        time.sleep(0.0017 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
        newest = checkpoints.find(tmp_path)[0]
        position, arrays, _ = newest.read()
        assert position.step == newest.step > reached
        assert all((value == newest.step).all() for value in arrays.values()) and len(arrays) == 2
        reached = newest.step
    assert checkpoints.find(tmp_path)[-1].step == 1  # the best checkpoint is kept


def test_a_checkpoint_of_another_training_is_refused_by_name() -> None:
    then = TrainingFacts(seed=1, loss="a", model={"args": {"units": [8, 8]}})
    checkpoints.check_same_training(then, TrainingFacts(seed=1, loss="a", model={"args": {"units": (8, 8)}}))
    with pytest.raises(UserError, match=r"seed") as refusal:
        checkpoints.check_same_training(then, replace(then, seed=2))
    assert "loss" not in str(refusal.value)


def test_a_fact_that_only_a_later_saman_knows_counts() -> None:
    later = TrainingFacts.from_json({"seed": 1, "shuffle": "blocks"})
    assert TrainingFacts.from_json(later.to_json()) == later
    with pytest.raises(UserError, match=r"shuffle"):
        checkpoints.check_same_training(later, TrainingFacts(seed=1))
