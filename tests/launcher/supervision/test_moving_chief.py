"""In an elastic run on several nodes the chief may move to another node; its telemetry is followed there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from saman.configs.schemas.script import Script
from saman.launcher.plan.placement import Placement, Process
from saman.launcher.supervision.progress import AttemptWatch
from saman.runs.elastic.world_events import WorldFormed
from saman.runs.folder import RunFolder
from saman.runs.ranks.heartbeats import Beat
from saman.runs.telemetry.window import Window, read_windows

FIRST = Window(
    rank=0, ranks_here=1, size=2, step=10, epoch=1, steps=10, samples=500, seconds=1.0, input_wait_seconds=0.0
)


def two_nodes(folder: Path) -> RunFolder:
    run = RunFolder.create(folder, Script.model_validate({"name": "x", "command": ["x"], "directory": str(folder)}))
    placement = Placement(tuple(Process(i, f"n{i}", 0, i, 1) for i in (0, 1)), 1)
    run.new_attempt().make_folders()
    placement.write(run.attempt(1).placement)
    return run


def take_window(run: RunFolder, node: int, window: Window) -> None:
    file = run.attempt(1).node_telemetry(node)
    file.parent.mkdir(exist_ok=True)
    with file.open("a") as lines:
        lines.write(json.dumps(window.to_json(), separators=(",", ":")) + "\n")


def test_the_last_word_of_a_rank_that_was_lost_is_not_the_progress(tmp_path: Path) -> None:
    run = two_nodes(tmp_path)
    placement = Placement.read(run.attempt(1).placement)
    assert placement is not None
    watch = AttemptWatch(run.attempt(1), placement, once=True)
    beats = {0: Beat("train", step=70, epoch=1), 1: Beat("train", step=200, epoch=2)}
    run.append("world", "supervisor", 1, **WorldFormed(2, "loss", (1,), lost=(0,)).facts())
    watch.note(run.events()[-1])
    seen = watch.progress(beats)
    assert (seen.step, seen.epoch, seen.behind) == (200, 2, None)


def test_the_chief_is_followed_to_another_node_and_back(tmp_path: Path) -> None:
    run = two_nodes(tmp_path)
    placement = Placement.read(run.attempt(1).placement)
    assert placement is not None
    watch, losses = AttemptWatch(run.attempt(1), placement, once=True), []
    for generation, (slots, loss) in enumerate([((0, 1), 0.9), ((1,), 0.5), ((1, 0), 0.4), ((0,), 0.3)], 1):
        run.append("world", "supervisor", 1, **WorldFormed(generation, "loss", slots).facts())
        watch.note(run.events()[-1])
        step = 10 * generation
        take_window(run, slots[0], replace(FIRST, step=step, epoch=1, loss=loss, time=100.0 + step))
        losses.append(watch.progress({}).loss)
    assert losses == [0.9, 0.5, 0.4, 0.3]
    assert [window.loss for window in read_windows(run, 0)[0]] == losses
