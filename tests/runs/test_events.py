"""Promises of records: what a killed writer left is read, and what was dropped is counted."""

import pytest

from saman.configs.loading.experiments import load_experiment
from saman.runs.events import Event, EventKind, State, state_of
from saman.runs.files.whole import append_line
from saman.runs.folder import RunFolder


def test_an_event_is_read_back():
    event = Event("rank_exited", "rank 1", attempt=2, facts={"rank": 1, "code": 3})
    assert Event.from_json(event.to_json()) == event
    assert Event.from_json({"schema": 2, "kind": "x"}) is None
    with pytest.raises(ValueError, match="time"):
        Event("x", "y", facts={"time": 3})


def test_every_kind_that_is_written_is_listed_and_a_reader_accepts_others(tmp_path):
    run = RunFolder.create(tmp_path, load_experiment("quickstart").experiment)
    with pytest.raises(ValueError, match="telepathy"):
        run.append("telepathy", "rank 0")
    append_line(run.events_file, {"schema": 1, "time": 1.0, "kind": "telepathy", "who": "a later saman"})
    run.append(EventKind.NOTICE, "supervisor", text="pinned")
    assert [event.kind for event in run.events()] == ["created", "telepathy", "notice"]
    assert run.state is State.CREATED


def test_the_state_follows_the_events():
    kinds = ["created", "queued", "attempt_started", "epoch", "preempted", "queued", "attempt_started", "completed"]
    states = [state_of([Event(kind, "x") for kind in kinds[: n + 1]]) for n in range(len(kinds))]
    assert [state.value for state in states] == [
        "created", "queued", "running", "running", "preempted", "queued", "running", "completed",
    ]  # fmt: skip
    assert states[-1].ended
    assert not State.PREEMPTED.ended
