"""A stall names the ranks that hold up the others, and follows the limit of their phase."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from saman.launcher.supervision.stalls import find_stall
from saman.runs.ranks.heartbeats import Beat, Heartbeat, read_beat

LIMITS = {"start": 300.0, "compile": 600.0, "train": 120.0, "validate": 300.0, "checkpoint": 300.0}
NOW = 10_000.0


def _beat(phase: str, step: int, idle: float, silent: float = 0.0, state: str = "") -> Beat:
    return Beat(phase, step, 1, 1, NOW - idle, NOW - silent, process_state=state)


@pytest.mark.parametrize(
    ("beats", "behind"),
    [
        ({0: _beat("train", 7, 10), 1: _beat("train", 7, 10)}, None),
        ({0: _beat("train", 8, 130), 1: _beat("train", 7, 131)}, (1,)),
        ({0: _beat("train", 7, 130), 1: _beat("train", 7, 130)}, (0, 1)),
        ({0: _beat("train", 7, 130), 1: _beat("train", 7, 130, silent=60)}, (1,)),
        ({0: _beat("train", 0, 400), 1: _beat("compile", 0, 400)}, None),
        ({0: _beat("train", 0, 700), 1: _beat("compile", 0, 700)}, (1,)),
        ({0: _beat("checkpoint", 7, 200), 1: _beat("train", 7, 200), 2: _beat("train", 7, 200)}, None),
        ({0: _beat("checkpoint", 7, 310), 1: _beat("train", 7, 310), 2: _beat("train", 7, 310)}, (0,)),
        ({0: _beat("checkpoint", 7, 310), 1: _beat("train", 7, 310)}, (0,)),
        ({0: _beat("export", 9, 290), 1: _beat("done", 9, 400)}, None),
        ({0: _beat("done", 9, 9000), 1: _beat("done", 9, 9000)}, None),
        ({0: _beat("script", 0, 130, state="S"), 1: _beat("script", 0, 130, state="T")}, (1,)),
        ({0: _beat("script", 0, 1), 1: _beat("script", 0, 130, state="S")}, (1,)),
    ],
)
def test_a_stall_names_who_is_behind(beats: dict[int, Beat], behind: tuple[int, ...] | None) -> None:
    stall = find_stall(beats, LIMITS, NOW)
    assert (stall.ranks if stall else None) == behind


def test_a_spare_process_that_waits_for_a_place_neither_stalls_nor_hides_a_stall() -> None:
    waiting = {2: _beat("wait", 0, 900.0)}
    assert find_stall({**waiting, 0: _beat("train", 9, 1.0)}, LIMITS, NOW) is None
    stall = find_stall({**waiting, 0: _beat("train", 9, 1.0), 1: _beat("train", 7, 500.0)}, LIMITS, NOW)
    assert stall is not None and stall.ranks == (1,)


def test_a_stall_says_phase_step_and_time() -> None:
    stall = find_stall({0: _beat("train", 8, 130), 1: _beat("train", 7, 131)}, LIMITS, NOW)
    assert stall is not None
    assert stall.sentence() == (
        "rank 1: no progress for 131 s in phase train at step 7 (limit 120 s); it is behind the others"
    )


def test_the_last_note_before_a_hang_reaches_the_disk(tmp_path: Path) -> None:
    heartbeat = Heartbeat(tmp_path / "0.json")
    for step in range(1000):
        heartbeat.beat("train", step, 1, total_steps=2000)
    time.sleep(0.8)
    beat = read_beat(tmp_path / "0.json")
    assert beat is not None and (beat.phase, beat.step, beat.total_steps) == ("train", 999, 2000)
    heartbeat.close()
    beat = read_beat(tmp_path / "0.json")
    assert beat is not None and beat.phase == "done"


def test_a_heartbeat_never_ends_a_training(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    heartbeat = Heartbeat(folder / "0.json")
    (folder / "0.json").unlink()
    folder.rmdir()
    heartbeat.beat("train", 1)
    heartbeat.close()  # neither raises
    assert not folder.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", json.dumps({"step": 1})])
def test_a_torn_heartbeat_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "0.json").write_text(text)
    assert read_beat(tmp_path / "0.json") is None
