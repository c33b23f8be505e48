"""``saman watch`` shows what is known of a run at any width, and nothing that could fool a terminal."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console
from tests.cli.conftest import Saman

from saman.cli.run_picture import RunPicture
from saman.configs.schemas.script import Script
from saman.jobs.status import RunState, RunStatus
from saman.launcher.monitoring.vitals import EventReader, Vitals
from saman.launcher.supervision.progress import TrainingProgress
from saman.runs.elastic.world_events import WorldFormed
from saman.runs.events import EventKind
from saman.runs.folder import RunFolder
from saman.runs.ranks.rank_events import SlowRank
from saman.runs.ranks.training_events import CheckpointSave, NonFinite
from saman.runs.telemetry.step_statistics import StepStatistics

STEPS = StepStatistics(0.010, 0.012, 0.02, 0.001, 0.002, 0.008)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    script = Script.model_validate({"name": "watched", "command": ["true"], "directory": str(tmp_path)})
    run = RunFolder.create(tmp_path / "runs", script)
    run.append("attempt_started", "supervisor", 1, ranks=4)
    run.append("restarting", "supervisor", 1, reason="a rank died; attempt 2 begins in 1 s")
    run.append("attempt_started", "supervisor", 2, ranks=3)
    for event in (
        CheckpointSave(100, "step-00000100"),
        NonFinite(80, "k", (1,), "report", 1, "step 80: \x1b]0;evil\x07"),
    ):
        run.append(event.kind, "rank 0", 2, **event.facts())
    run.append(EventKind.WORLD, "supervisor", 2, **WorldFormed(2, "loss", (0, 1, 2), lost=(3,)).facts())
    run.append(EventKind.STRAGGLER, "supervisor", 2, **SlowRank(2, "n1", 0.5, 90).facts())
    return run


def picture(run: RunFolder, width: int, losses: int = 3) -> str:
    events = EventReader(run)
    found = events.look()
    status = RunStatus(str(run.path), run.id, "watched", RunState.RUNNING, "", 2)
    shown = RunPicture()
    for step in range(losses):
        progress = TrainingProgress("train", 2, 120 + step, 400, 5321.5, 1.0 / (1 + step), {"val_accuracy": 0.91}, 60.0,
                                    steps=STEPS, memory_bytes=2**30)  # fmt: skip
        vitals = Vitals(run.id, "watched", found[-1].time + 5, events.tally, progress, goodput=0.972)
        shown.take(vitals, found if step == 0 else [], status)
    console = Console(file=StringIO(), width=width)
    console.print(shown.render())
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def test_everything_that_is_known_is_shown(run: RunFolder) -> None:
    text = picture(run, 110)
    for words in ("epoch 2, step 122 of 400, 1 min 0 s left", "5.32k samples/s",
                  "10 ms median, 12 ms p95, 20 ms longest",
                  "8 ms own work, 2 ms exchange, 1 ms input wait", "val_accuracy 0.91", "1.00 GiB", "97.2%",
                  "step 100, ", "3, attempt 2, 1 restart, went on from 1 failure",
                  "rank 2 on n1 is 50% slower than its peers", "█▃▁",
                  "a rank died; attempt 2 begins", "rank 3 lost: 3 ranks go on"):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_it_fits_the_terminal_and_obeys_no_control_sequence(run: RunFolder, width: int) -> None:
    text = picture(run, width)
    assert {len(line) for line in text.splitlines()} == {width}
    assert "\x1b" not in text and "\x07" not in text


def test_the_command_shows_a_run_once_and_prints_rules_and_metrics(run: RunFolder, saman: Saman) -> None:
    assert "attempt 2" in saman("watch", str(run.path), "--once").out
    metrics = saman("watch", str(run.path), "--prometheus").out
    assert "saman_world_size{" in metrics and "saman_loss" not in metrics
    assert "alert: SamanStalled" in saman("watch", "--alert-rules").out
