"""A study on a pretended place: runs are real folders, and what happens in them is played look by look."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saman.configs.problems import validated
from saman.configs.schemas.tuning import Tuning
from saman.jobs.status import RunState, RunStatus
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import Creation
from saman.runs.records.summary import Summary
from saman.tuning.places.place import Seen
from saman.tuning.plan import RunSpec, TuningPlan

EPOCHS = 9
STUDY: dict[str, Any] = {
    "name": "t",
    "program": {"command": ["true", "{x}", "{y}"], "epochs": EPOCHS},
    "space": {"x": {"low": -1.0, "high": 1.0}, "y": {"low": -1.0, "high": 1.0}},
    "objective": {"metric": "loss", "goal": "minimize"},
    "sampler": "random",
    "trials": 12,
    "concurrency": 4,
}


def plan(folder: Path, **changes: Any) -> TuningPlan:
    values = {key: value for key, value in {**STUDY, **changes}.items() if value is not None}
    return TuningPlan(validated(Tuning, values, "t.yaml"), folder / "t.yaml", None)


def bowl(run: RunFolder, epoch: int) -> dict[str, float]:
    """A bowl with its bottom at (0.3, -0.2), approached over the epochs."""
    x, y = map(float, run.script().command[1:3])
    return {"loss": (x - 0.3) ** 2 + (y + 0.2) ** 2 + math.exp(-epoch / 2), "x": x}


@dataclass
class PretendedPlace:
    """Plays an epoch of every run per look.

    ``fate`` names, for a run about to take an epoch, ``kill``, ``fail``, ``nan`` or nothing.
    """

    runs_dir: Path
    fate: Callable[[str, int, int], str | None] = lambda key, epoch, start: None
    metrics: Callable[[RunFolder, int], dict[str, float]] = bowl
    at_end: Callable[[RunFolder], None] = lambda run: None
    made: list[str] = field(default_factory=list)
    epochs_run: int = 0
    starts: int = 0
    epoch: dict[Path, int] = field(default_factory=dict)
    going: set[Path] = field(default_factory=set)

    def start(self, specs: Sequence[RunSpec]) -> list[RunFolder]:
        runs = []
        for each in specs:
            run = RunFolder.create(self.runs_dir, each.spec, trial=each.key)
            self.made.append(each.key.partition("/")[2])
            self.restart(run)
            runs.append(run)
        return runs

    def restart(self, run: RunFolder) -> None:
        assert run.path not in self.going, "two starts of a run at a time"
        run.withdraw_stop()
        run.append("attempt_started", "supervisor", run.new_attempt().number)
        self.starts += 1
        self.going.add(run.path)

    def look(self, runs: Sequence[RunFolder]) -> list[Seen]:
        for run in runs:
            if run.path in self.going:
                self._take_epoch(run)
        return [Seen(_status(run), idle=not run.attempts()) for run in runs]

    def _take_epoch(self, run: RunFolder) -> None:
        number = len(run.attempts())
        if run.stop_request.exists():
            self._end(run, "preempted")
            return
        epoch = self.epoch.get(run.path, 0) + 1
        key = str(Creation.find(run.events()[:1]).trial).partition("/")[2]
        fate = self.fate(key, epoch, number)
        if fate == "kill":
            self._end(run, "failed", "slurm")
            return
        if fate == "fail":
            run.write_summary(Summary("failed", failure={"first": [{"rank": 0, "kind": "error", "code": 1}]}))
            self._end(run, "failed")
            return
        self.epochs_run += 1
        found = self.metrics(run, epoch)
        metrics = dict.fromkeys(found) if fate == "nan" else found
        run.append("epoch", "rank 0", number, epoch=epoch, step=epoch, metrics=metrics)
        self.epoch[run.path] = epoch
        if epoch == EPOCHS:
            self.at_end(run)
            run.write_summary(Summary("completed", metrics=found))
            self._end(run, "completed")

    def _end(self, run: RunFolder, kind: str, who: str = "supervisor") -> None:
        self.going.discard(run.path)
        run.append(kind, who, len(run.attempts()))

    def close(self) -> None:
        pass


def _status(run: RunFolder) -> RunStatus:
    state = RunState(run.state.value)
    return RunStatus(str(run.path), run.id, run.experiment_name, state, "", attempt=len(run.attempts()))


def killer(share: float, seed: int = 0) -> Callable[[str, int, int], str | None]:
    """Kills a share of the trials once each, at an epoch of chance."""
    chance = random.Random(seed)
    doomed: dict[str, int] = {}

    def fate(key: str, epoch: int, start: int) -> str | None:
        if key not in doomed:
            doomed[key] = chance.randint(1, 2) if chance.random() < share else 0
        return "kill" if start == 1 and epoch == doomed[key] else None

    return fate
