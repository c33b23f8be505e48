"""``saman status``, ``logs`` and ``wait`` tell what the run folder says, as text and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic import Made, write_run

from saman.runs.folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A completed run of two ranks."""
    return RunFolder(write_run(tmp_path / "runs" / "made" / "20260101-000000-000-abcdef", Made(ranks=2)))


def test_the_status_of_a_run_names_it_and_its_state(saman: Any, run: RunFolder) -> None:
    [row] = saman("status", "last", "--json").json
    assert (row["id"], row["state"]) == (run.id, "completed")
    shown = saman("status", "last")
    assert shown.status == 0 and run.id in shown.out and "completed" in shown.out


def test_several_runs_are_counted_by_their_states(saman: Any, run: RunFolder, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "made" / "20260101-000001-000-abcdef", Made(state="failed"))
    assert "2 runs: " in saman("status").out
    assert [row["state"] for row in saman("status", "made", "--json").json] == ["failed"]  # a name: its newest run


def test_logs_come_from_the_rank_that_is_asked_for(saman: Any, run: RunFolder) -> None:
    log = run.attempt(1).log(1)
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("hello from rank 1\n")
    assert "hello from rank 1" in saman("logs", "last", "--rank", "1").out
    assert "hello" not in saman("logs", "last").out


def test_waiting_for_a_failed_run_fails(saman: Any, run: RunFolder, tmp_path: Path) -> None:
    assert saman("wait", run.id).status == 0
    write_run(tmp_path / "runs" / "made" / "20260101-000001-000-abcdef", Made(state="failed"))
    assert saman("wait", "20260101-000001-000-abcdef").status == 1


def test_a_run_that_does_not_exist_is_named(saman: Any, run: RunFolder) -> None:
    refused = saman("logs", "no-such-run")
    assert refused.status == 2 and "no-such-run" in refused.err
