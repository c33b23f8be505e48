"""Run folders for the tests of monitoring: as a supervisor and ranks leave them, without starting any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saman.configs.schemas.script import Script
from saman.launcher.supervision.progress import TrainingProgress
from saman.runs.folder import RunFolder
from saman.runs.telemetry.step_statistics import StepStatistics

PROGRESS = TrainingProgress(
    phase="train", epoch=2, step=120, total_steps=400, samples_per_second=5321.5, loss=0.25,
    metrics={"val_accuracy": 0.91}, remaining_seconds=60.0, memory_bytes=2**30,
    steps=StepStatistics(0.010, 0.012, 0.02, 0.001, 0.002, 0.008),
)  # fmt: skip


def running(folder: Path, **spec: Any) -> RunFolder:
    """A run whose first attempt has begun on four ranks."""
    script = Script.model_validate({"name": "watched", "command": ["true"], "directory": str(folder), **spec})
    run = RunFolder.create(folder / "runs", script)
    run.new_attempt()
    run.append("attempt_started", "supervisor", 1, ranks=4)
    return run
