"""A log stays below its limit while its program goes on writing, and says what became of the lines before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saman.launcher.plan.environment import job_environment
from saman.launcher.rank.log_rotation import LogRotation, rotate
from saman.launcher.supervision.rank_output import MOST_LINES
from saman.runs.growing_files import Follower

LIMIT = 10_000


def _write(descriptor: int, first: int, lines: int) -> None:
    os.write(descriptor, b"".join(b"line %05d\n" % number for number in range(first, first + lines)))


@pytest.fixture
def appending(tmp_path: Path):  # type: ignore[no-untyped-def]
    descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    yield tmp_path / "log", tmp_path / "log.1", descriptor
    os.close(descriptor)


def test_a_log_is_rotated_under_the_program_that_writes_it(appending) -> None:  # type: ignore[no-untyped-def]
    log, older, descriptor = appending
    _write(descriptor, 0, 400)
    assert not rotate(log, older, LIMIT)
    _write(descriptor, 400, 100)
    assert rotate(log, older, LIMIT)
    _write(descriptor, 500, 2)
    first, *rest = log.read_text().splitlines()
    assert "launch.log_limit" in first and older.name in first
    assert rest == ["line 00500", "line 00501"]
    assert older.read_text().splitlines()[-1] == "line 00499"


def test_log_and_older_part_stay_below_the_limit_under_a_flood(appending) -> None:  # type: ignore[no-untyped-def]
    log, older, descriptor = appending
    for look in range(50):
        _write(descriptor, 300 * look, 300)
        rotation = LogRotation(log, older, LIMIT)
        rotation.look()
        rotation.close()
        note = 200  # the first line of the new log
        assert log.stat().st_size + (older.stat().st_size if older.exists() else 0) <= LIMIT + note
    assert "dropped" in log.read_text().splitlines()[0]


def test_without_a_limit_nothing_is_rotated(appending) -> None:  # type: ignore[no-untyped-def]
    log, older, descriptor = appending
    _write(descriptor, 0, 5000)
    LogRotation(log, older, None).look()
    assert not older.exists()


def test_followers_of_a_rotated_log_begin_anew(appending) -> None:  # type: ignore[no-untyped-def]
    log, older, descriptor = appending
    by_line, by_piece = Follower(log), Follower(log)
    _write(descriptor, 0, 1000)
    by_line.lines(), list(by_piece.pieces())
    rotate(log, older, LIMIT)
    _write(descriptor, 1000, 1)
    assert by_line.lines()[-1] == "line 01000"
    assert "".join(by_piece.pieces()).endswith("line 01000\n")


def test_the_limit_of_the_experiment_reaches_every_rank(tmp_path: Path) -> None:
    from saman.configs.loading.experiments import load_experiment

    spec = load_experiment("quickstart", ["launch.log_limit=64M"]).experiment
    assert job_environment(spec, tmp_path, (), {})["SAMAN_LOG_LIMIT"] == str(64 << 20)


def test_of_a_flood_the_newest_lines_are_returned_and_the_rest_counted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"{number}\n" for number in range(500_000)) + "unfinished")
    follower = Follower(log)
    lines, left_out = follower.newest_lines(MOST_LINES)
    assert lines == [str(number) for number in range(500_000 - MOST_LINES, 500_000)]
    assert left_out == 500_000 - MOST_LINES
    with log.open("a") as file:
        file.write(" line\nlast\n")
    assert follower.newest_lines(MOST_LINES) == (["unfinished line", "last"], 0)
    assert follower.newest_lines(MOST_LINES) == ([], 0)
