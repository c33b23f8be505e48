"""What the ranks of a node print arrives in one log: byte for byte per rank, below the limit, whoever floods."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from saman.runs.gathering.logs import LogGathering
from saman.runs.paths.attempt import Attempt
from saman.runs.ranks.node_log import NodeLogFollower, RankLogFollower

PRINTED = some.text(some.sampled_from("a\n\ré漢\U0001f6803|+* "), max_size=30)


def _own(folder: Path) -> Attempt:
    made = Attempt(folder / "own" / "1")
    made.make_folders()
    return made


def _print(own: Attempt, rank: int, data: bytes) -> None:
    with own.log(rank).open("ab") as file:
        file.write(data)


def _read(log: Path, rank: int) -> str:
    return "".join(RankLogFollower(log, rank).pieces())


@settings(max_examples=60, deadline=None)
@given(some.lists(some.tuples(some.integers(0, 2), PRINTED, some.integers(0, 200)), max_size=8))
def test_each_rank_s_output_arrives_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("logs")
    own, log = _own(folder), folder / "node.log"
    gathering, live = LogGathering(own, log, folder / "node.log.1", None), RankLogFollower(log, 1)
    wanted, seen = dict.fromkeys(range(3), b""), ""
    for rank, text, cut in pieces:
        data = text.encode()
        at = cut % (len(data) + 1)
        for part in (data[:at], data[at:]):  # a write may end in the middle of a character
            _print(own, rank, part)
            wanted[rank] += part
            gathering.gather()
            seen += "".join(live.pieces())
    gathering.close()
    assert [_read(log, rank).encode() for rank in range(3)] == list(wanted.values())
    assert seen.encode() == wanted[1]


def test_a_gatherer_that_takes_over_repeats_and_loses_nothing(tmp_path: Path) -> None:
    own, log = _own(tmp_path), tmp_path / "node.log"
    for turn in range(4):
        _print(own, turn % 2, b"line %d\n" % turn)
        LogGathering(own, log, tmp_path / "node.log.1", None).gather()
    assert (_read(log, 0), _read(log, 1)) == ("line 0\nline 2\n", "line 1\nline 3\n")


def test_a_flood_stays_below_the_limit_and_drops_nothing_of_the_others(tmp_path: Path) -> None:
    own, log, older, limit = _own(tmp_path), tmp_path / "node.log", tmp_path / "node.log.1", 40_000
    gathering = LogGathering(own, log, older, limit)
    _print(own, 1, b"told once\n")
    for turn in range(60):
        _print(own, 0, b"".join(b"line %05d\n" % (300 * turn + each) for each in range(300)))
        gathering.gather()
        assert log.stat().st_size + (older.stat().st_size if older.exists() else 0) < 2 * limit
    assert "told once" in _read(older, 1) + _read(log, 1)
    assert "launch.log_limit" in _read(log, 0)
    kept = [line for line in (_read(older, 0) + _read(log, 0)).splitlines() if line.startswith("line")]
    assert kept == [f"line {number:05d}" for number in range(18_000 - len(kept), 18_000)]  # the newest, in order
    assert not log.with_name("node.log.2").exists()


def test_output_that_nobody_can_keep_up_with_is_left_out_and_counted(tmp_path: Path) -> None:
    own, log = _own(tmp_path), tmp_path / "node.log"
    gathering = LogGathering(own, log, tmp_path / "node.log.1", 40_000)
    _print(own, 0, b"x" * 100 + b"\n")
    gathering.gather()
    _print(own, 0, b"y" * 500_000 + b"\nlast words\n")
    gathering.gather()
    text = _read(tmp_path / "node.log.1", 0) + _read(log, 0)
    assert "left out here" in text and text.endswith("last words\n") and len(text) < 40_000


def test_the_view_of_a_run_shows_the_newest_lines_of_the_ranks_it_shows(tmp_path: Path) -> None:
    own, log = _own(tmp_path), tmp_path / "node.log"
    gathering, view = LogGathering(own, log, tmp_path / "node.log.1", None), NodeLogFollower(log, [0, 2])
    _print(own, 0, b"".join(b"%d\n" % number for number in range(50)))
    _print(own, 1, b"not shown\n" * 50)
    _print(own, 2, b"half")
    gathering.gather()
    lines, left_out = view.newest_lines(10)
    assert lines == [(0, str(number)) for number in range(40, 50)] and dict(left_out) == {0: 40}
    _print(own, 2, b" and half\nno end")
    gathering.gather()
    assert view.newest_lines(10)[0] == [(2, "half and half")]
    assert view.unfinished() == [(2, "no end")]


def test_damaged_lines_of_a_log_are_passed_over(tmp_path: Path) -> None:
    log = tmp_path / "node.log"
    log.write_bytes(b"0| whole\n\0\0\0\xff garbage\n0|no space\nx| y\n0| again\n")
    assert _read(log, 0) == "whole\nagain\n"
