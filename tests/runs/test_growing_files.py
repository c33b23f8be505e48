"""Following a file that grows: every line once and whole, every character whole, nothing where there is no file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from saman.configs.loading.experiments import load_experiment
from saman.jobs.progress import read_progress
from saman.launcher.plan.placement import Placement, Process
from saman.runs.folder import RunFolder
from saman.runs.growing_files import Follower, last_lines, last_text, text_from
from saman.runs.ranks.heartbeats import Beat, write_beat
from saman.runs.telemetry.window import Window

TEXT = some.text(some.sampled_from("a\né漢\U0001f680"), max_size=40)


@given(TEXT, some.lists(some.integers(0, 100), max_size=6))
def test_however_a_file_grows_its_text_arrives_once(
    tmp_path_factory: pytest.TempPathFactory, text: str, cuts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("logs") / "log"
    by_line, by_piece = Follower(path), Follower(path)
    lines, pieces = by_line.lines(), list(by_piece.pieces())
    data, edges = text.encode(), sorted({0, *(cut % (len(text.encode()) + 1) for cut in cuts), len(text.encode())})
    with path.open("wb", buffering=0) as file:
        for begin, end in zip(edges, edges[1:], strict=False):
            file.write(data[begin:end])
            lines += by_line.lines()
            pieces += by_piece.pieces()
    lines += by_line.lines(flush=True)
    assert "".join(pieces) == text
    assert lines == (text.removesuffix("\n").split("\n") if text else [])


def test_following_may_begin_near_the_end_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("first\nsecond\nthird\n")
    assert Follower(path, newest_bytes=len("cond\nthird\n")).lines() == ["third"]
    assert Follower(path, newest_bytes=len("second\nthird\n")).lines() == ["second", "third"]
    assert Follower(path, newest_bytes=1000).lines() == ["first", "second", "third"]
    only_new = Follower(path, newest_bytes=0)
    assert only_new.lines() == []
    with path.open("a") as file:
        file.write("fourth\n")
    assert only_new.lines() == ["fourth"]


def test_the_end_of_a_file_is_what_a_terminal_would_show(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"start\n10 %\r50 %\r100 %\nend\n\n\n")
    assert last_lines(path) == ("start", "100 %", "end")
    assert last_lines(path, lines=1) == ("end",)
    assert last_text(path, 6) == "end\n\n\n" and text_from(path, 6).startswith("10 %")
    assert last_lines(tmp_path / "none") == () and last_text(tmp_path / "none", 5) == ""


def test_a_long_runs_progress_is_that_of_its_newest_windows(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, load_experiment("quickstart").experiment)
    attempt = run.new_attempt()
    process = Process(0, "node", 0, 0, 1)
    attempt.placement.write_text(json.dumps(Placement((process,), 1).to_json()))
    write_beat(attempt.heartbeat(0), Beat("train", step=100_000))
    with attempt.telemetry(0).open("w") as file:
        for index in range(10_000):  # over a megabyte; the run became twice as fast in its last windows
            window = Window(0, 1, 1, index + 1, 1, 1, 100, 0.5 if index > 9_900 else 1.0, 0.0)
            file.write(json.dumps(window.to_json()) + "\n")
    assert attempt.telemetry(0).stat().st_size > 1 << 20
    seen = read_progress(run, 0.0)
    assert seen is not None and seen.samples_per_second == 200
