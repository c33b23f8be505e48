"""Logs by rank: the log of the process that holds the rank, or an error that names the processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.experiments import load_experiment
from saman.jobs.logs import read_logs
from saman.launcher.plan.placement import Placement, Process
from saman.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two processes: the first holds ranks 0 and 1, the second rank 2."""
    made = RunFolder.create(tmp_path, load_experiment("quickstart").experiment)
    attempt = made.new_attempt()
    attempt.make_folders()
    Placement((Process(0, "here", 0, 0, 2), Process(1, "here", 1, 2, 1)), 1).write(attempt.placement)
    for first in (0, 2):
        attempt.log(first).write_text(f"process of rank {first}\n")
        attempt.rank_record(first).write_text("{}")
    return made


@pytest.mark.parametrize(("rank", "first"), [(0, 0), (1, 0), (2, 2)])
def test_a_rank_is_found_in_the_log_of_its_process(run: RunFolder, rank: int, first: int) -> None:
    assert "".join(piece.text for piece in read_logs(run, rank=rank)) == f"process of rank {first}\n"


def test_a_rank_beyond_the_last_has_no_log(run: RunFolder) -> None:
    with pytest.raises(UserError, match="no log of rank 7") as error:
        list(read_logs(run, rank=7))
    assert "[0, 2]" in error.value.remedy


def test_the_older_part_of_a_rotated_log_comes_first_and_once(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "runs", load_experiment("quickstart", []).experiment)
    attempt = run.new_attempt()
    attempt.older_log(0).write_text("older\n")
    attempt.log(0).write_text("newer\n")
    assert "".join(piece.text for piece in read_logs(run)) == "older\nnewer\n"


def test_the_end_is_told_after_the_last_lines(run: RunFolder) -> None:
    run.append("completed", "supervisor", 1)
    seen: list[str] = []
    for piece in read_logs(run, follow=True, tell=lambda status: seen.append(status.state)):
        seen.append(piece.text)
    assert seen == ["process of rank 0\n", "completed"]


def test_a_reader_goes_on_where_an_earlier_reader_stopped(run: RunFolder) -> None:
    log = run.attempt(1).log(0)
    text = "é first\nsecond ö\n"
    log.write_bytes(text.encode()[:-2])  # ends within a character
    read = list(read_logs(run))
    places = {piece.file: piece.end for piece in read}
    log.write_bytes(text.encode())
    later = "".join(piece.text for piece in read_logs(run, begin=places))
    assert "".join(piece.text for piece in read) + later == text
    assert later == "ö\n"
