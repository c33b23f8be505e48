"""Starts writers of checkpoints in child processes, and kills each with SIGKILL at another point of its write.

    python killed_writers.py FOLDER KILLS

Prints one JSON line per kill: whether a checkpoint was half written, and the newest sound step before and after.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import numpy as np

from saman.runs import checkpoints
from saman.runs.checkpoints import CheckpointPlan, CheckpointWriter, TrainingPosition
from saman.runs.records.training_facts import TrainingFacts

VALUES, PARTS = 60_000, 2  # 240 kB per array
ARRAYS = 4  # per part


def write(folder: Path, step: int) -> None:
    """Write a checkpoint as two ranks do, while this thread, like a training, does not wait."""
    writers = []
    for part in range(PARTS):
        plan = CheckpointPlan(
            folder=folder,
            facts=TrainingFacts(),
            keep=2,
            part=part,
            parts=PARTS,
            publishes=part == 0,
            record=lambda saved: None,
        )
        writers.append(CheckpointWriter(plan))
        arrays = {f"{part}/{at}": np.full(VALUES, step, "float32") for at in range(ARRAYS)}
        writers[-1].begin(TrainingPosition(step=step), lambda arrays=arrays: arrays)
    for writer in writers:
        writer.finish()


def newest_sound(folder: Path) -> int:
    """The newest sound step; fails if what it holds is of another step."""
    for checkpoint, problem in checkpoints.newest_sound(folder):
        assert problem is None, problem
        arrays = checkpoint.read()[1]
        assert len(arrays) == PARTS * ARRAYS
        assert all((array == checkpoint.step).all() for array in arrays.values())
        return checkpoint.step
    return 0


def drafts(folder: Path) -> list[Path]:
    """The files of checkpoints in writing; an old one may be half removed, which is no torn write."""
    return [file for place in folder.glob(".step-*.tmp") for file in place.iterdir()]


def written_bytes(folder: Path) -> int:
    try:
        return sum(file.stat().st_size for file in drafts(folder))
    except FileNotFoundError:  # renamed meanwhile
        return 0


def kill_one(folder: Path, step: int, share: float) -> dict[str, object]:
    """Start a writer, and kill it when it has written a share of the checkpoint."""
    before, enough = newest_sound(folder), int(share * PARTS * ARRAYS * VALUES * 4)
    child = os.fork()
    if child == 0:
        write(folder, step)
        os._exit(0)
    ended = 0
    while written_bytes(folder) < max(1, enough) and not ended:
        ended = os.waitpid(child, os.WNOHANG)[0]
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    torn = bool(drafts(folder))
    return {"torn": torn, "step": step, "before": before, "after": newest_sound(folder)}


def main() -> None:
    folder, kills = Path(sys.argv[1]), int(sys.argv[2])
    write(folder, 1)
    for number in range(kills):
        print(json.dumps(kill_one(folder, number + 2, number / kills)), flush=True)
        checkpoints.discard_drafts(folder)  # as the next attempt does
        assert not drafts(folder)
    write(folder, kills + 2)
    assert newest_sound(folder) == kills + 2


main()
