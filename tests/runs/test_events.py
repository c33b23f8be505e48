"""Promises of records: what a killed writer left is read, and what was dropped is counted."""

import pytest

from saman.configs.loading.experiments import load_experiment
from saman.runs.events import Event, EventKind, State, state_of
from saman.runs.files.whole import append_line, read_json, read_lines, write_json, write_whole
from saman.runs.folder import RunFolder
from saman.runs.telemetry.window import Window, without_repeats


def window(step, steps=10, **more):
    return Window(rank=0, ranks_here=1, size=2, step=step, steps=steps, epoch=0, samples=8, seconds=1.0,
                  input_wait_seconds=0.1, **more)  # fmt: skip


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


def test_a_torn_line_is_dropped_and_counted_and_the_next_one_is_whole(tmp_path):
    file = tmp_path / "events.jsonl"
    append_line(file, {"n": 1})
    with file.open("a") as torn:
        torn.write('{"n": 2, "tor')
    append_line(file, {"n": 3})
    assert read_lines(file) == ([{"n": 1}, {"n": 3}], 1)


def test_steps_repeated_after_a_resume_count_once():
    first = [window(10), window(20), window(30, loss=1.0)]
    kept, repeated = without_repeats([first, [], [window(30, loss=2.0), window(40)]])
    assert [one.step for one in kept] == [10, 20, 30, 40]
    assert kept[2].loss == 2.0
    assert repeated == 1
    kept, repeated = without_repeats([[window(10), window(20)], [window(15, steps=5), window(25)]])
    assert [one.step for one in kept] == [10, 15, 25]


def test_a_window_is_read_back_and_one_of_another_schema_is_not():
    one = window(10, loss=0.5, exchange_seconds=0.2)
    assert Window.from_json(one.to_json()) == one
    assert Window.from_json({**one.to_json(), "schema": 99}) is None
    assert Window.from_json({"schema": 1, "step": 3}) is None


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "state.json"
    write_json(file, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"a": float("nan")})
    assert read_json(file) == {"a": 1}
    (tmp_path / "locked").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "locked", "x")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["locked", "state.json"]
