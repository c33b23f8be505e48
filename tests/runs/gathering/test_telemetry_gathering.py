"""Telemetry of a node's ranks arrives in one file: every line once, whoever gathers and whenever the gatherer dies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from saman.runs.files.whole import append_line
from saman.runs.folder import RunFolder
from saman.runs.gathering import appended, telemetry
from saman.runs.gathering.telemetry import TelemetryGathering
from saman.runs.paths.attempt import Attempt
from saman.runs.telemetry.columns import count_rows, read_columns
from saman.runs.telemetry.window import Window, read_windows


@pytest.fixture
def own(tmp_path: Path) -> Attempt:
    made = Attempt(tmp_path / "own" / "1")
    made.make_folders()
    return made


def _window(rank: int, step: int) -> Window:
    return Window(rank, 1, 4, step, 1, 1, 8, 0.5, 0.1, loss=0.25 if rank == 0 else None)


def _steps(run: RunFolder, rank: int) -> list[int]:
    return [window.step for window in read_windows(run, rank)[0]]


def test_every_line_of_every_rank_arrives_once(tmp_path: Path, own: Attempt) -> None:
    run = RunFolder(tmp_path / "run")
    run.attempt(1).make_folders()
    gathering = TelemetryGathering(own, run.attempt(1).node_telemetry(0))
    for step in range(1, 6):
        for rank in range(4):
            append_line(own.telemetry(rank), _window(rank, step).to_json())
            if step % 2:
                gathering.gather()
    gathering.gather(), gathering.gather()
    assert [_steps(run, rank) for rank in range(4)] == [[1, 2, 3, 4, 5]] * 4
    columns, torn, foreign = read_columns(run.path)
    assert (count_rows(columns), torn, foreign) == (20, 0, 0)
    gathering.close()


def test_files_of_single_ranks_count_beside_those_of_nodes(tmp_path: Path, own: Attempt) -> None:
    run = RunFolder(tmp_path / "run")
    for attempt in (1, 2):
        run.attempt(attempt).make_folders()
    append_line(run.attempt(1).telemetry(0), _window(0, 1).to_json())  # an attempt that an earlier version wrote
    append_line(own.telemetry(0), _window(0, 2).to_json())
    TelemetryGathering(own, run.attempt(2).node_telemetry(0)).gather()
    assert _steps(run, 0) == [1, 2]


def test_a_line_that_is_being_written_waits(tmp_path: Path, own: Attempt) -> None:
    target = tmp_path / "target"
    gathering = TelemetryGathering(own, target)
    own.telemetry(0).write_bytes(b'{"a":1}\n{"b"')
    gathering.gather()
    assert target.read_bytes() == b'{"a":1}\n'
    own.telemetry(0).write_bytes(b'{"a":1}\n{"b":2}\n')
    gathering.gather()
    assert target.read_bytes() == b'{"a":1}\n{"b":2}\n'


@pytest.mark.parametrize("dies_in", ["put", "write", "free"])
def test_a_gatherer_that_dies_anywhere_loses_and_repeats_nothing(
    tmp_path: Path, own: Attempt, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    class Killed(BaseException):
        pass

    def put_and_die(file: appended.AppendedFile, block: bytes, at: int) -> None:
        os.pwrite(file._descriptor, block[: len(block) // 2], at)
        raise Killed

    def die(*_: object) -> None:
        raise Killed

    target = tmp_path / "target"
    first = TelemetryGathering(own, target)
    for rank in (0, 1):
        append_line(own.telemetry(rank), {"rank": rank, "line": 0})
    first.gather()
    for rank in (0, 1):
        append_line(own.telemetry(rank), {"rank": rank, "line": 1})
    with monkeypatch.context() as patched:
        if dies_in == "put":
            patched.setattr(appended.AppendedFile, "put", put_and_die)
        elif dies_in == "write":
            patched.setattr(appended.Gathered, "write", die)
        else:
            patched.setattr(telemetry, "free_gathered", die)
        with pytest.raises(Killed):
            first.gather()
    for rank in (0, 1):
        append_line(own.telemetry(rank), {"rank": rank, "line": 2})
    TelemetryGathering(own, target).gather()
    lines = sorted(target.read_text().splitlines())
    assert lines == sorted(f'{{"rank":{rank},"line":{line}}}' for rank in (0, 1) for line in range(3))


def test_the_space_of_gathered_lines_is_given_back(
    tmp_path: Path, own: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appended, "FREE_BYTES", 1 << 18)
    gathering = TelemetryGathering(own, tmp_path / "target")
    line = b'{"x":"' + b"y" * 1000 + b'"}\n'
    for _ in range(10):
        with own.telemetry(0).open("ab") as file:
            file.write(line * 200)
        gathering.gather()
    found = own.telemetry(0).stat()
    if found.st_blocks * 512 >= found.st_size:
        pytest.skip("this file system cannot punch holes")
    assert found.st_blocks * 512 < 3 * (1 << 18)
    assert (tmp_path / "target").read_bytes() == line * 2000
