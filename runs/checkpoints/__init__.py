"""Checkpoints: a folder per step, the same for every strategy, visible by a rename, checked by SHA-256 when read.

    checkpoints/step-00000123/{checkpoint.json, part-00000-<SHA-256>.npz, …}

A part holds named arrays; a reader gets their union. Ranks that hold different layers write a part each, and so do
ranks that hold the same state, each its share of the bytes. ``checkpoint.json`` is the manifest: it names every part
with its size and digest.
"""

from __future__ import annotations

from saman.runs.checkpoints.parts import DamagedCheckpoint
from saman.runs.checkpoints.store import (
    Checkpoint,
    TrainingPosition,
    check_same_training,
    checkpoint_of,
    discard,
    discard_drafts,
    draft,
    find,
    newest_sound,
    publish,
    write_part,
)
from saman.runs.checkpoints.writer import CheckpointPlan, CheckpointWriter, SavedCheckpoint, finish_pending_writes

__all__ = [
    "Checkpoint",
    "CheckpointPlan",
    "CheckpointWriter",
    "DamagedCheckpoint",
    "SavedCheckpoint",
    "TrainingPosition",
    "check_same_training",
    "checkpoint_of",
    "discard",
    "discard_drafts",
    "draft",
    "find",
    "finish_pending_writes",
    "newest_sound",
    "publish",
    "write_part",
]
