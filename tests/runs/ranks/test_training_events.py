"""What a rank records about training, its readers get back, typed; what a killed or older saman wrote is no error."""

import json

import pytest

from saman.runs.events import Event, find_last
from saman.runs.ranks.training_events import (
    CheckpointSave,
    DataNotice,
    EpochEnd,
    FinalTest,
    ModelExport,
    Notice,
    PredictedStages,
    SplitNotice,
    TrainingEvent,
)


def written(facts: TrainingEvent) -> Event:
    """The event as a reader finds it in ``events.jsonl``."""
    line = json.loads(json.dumps(Event(facts.kind.value, "rank 0", 1.0, 1, facts.facts()).to_json()))
    event = Event.from_json(line)
    assert event is not None
    return event


@pytest.mark.parametrize(
    "facts",
    [
        Notice("the loss is nan"),
        SplitNotice("two stages", ("dense_1",)),
        SplitNotice("two stages", ("dense_1",), PredictedStages(0.5, 1.9, (0.2, 0.3), (1e6, 2e6), (0.1, 0.0))),
        EpochEnd(2, 40, {"loss": 0.5, "val_loss": None}),
        ModelExport("export", {"val_accuracy": 0.9}),
        FinalTest({"test_accuracy": 0.8, "test_loss": None}),
        DataNotice("every rank reads all examples"),
    ],
)
def test_facts_are_read_back(facts: TrainingEvent) -> None:
    assert type(facts).from_event(written(facts)) == facts  # type: ignore[attr-defined]


def test_an_event_of_another_kind_has_none_of_these_facts() -> None:
    event = Event("completed", "supervisor")
    assert [kind.from_event(event) for kind in (Notice, SplitNotice, EpochEnd, ModelExport)] == [None] * 4


def test_a_notice_without_cuts_is_no_split() -> None:
    assert SplitNotice.from_event(written(Notice("pinned"))) is None


def test_metrics_that_are_not_finite_are_left_out() -> None:
    end = EpochEnd(1, 10, {"loss": 0.5, "val_loss": None})
    assert end.finite_metrics() == {"loss": 0.5}


def test_the_last_epoch_counts() -> None:
    events = [written(EpochEnd(epoch, 10 * epoch, {})) for epoch in (1, 2)]
    assert find_last(EpochEnd.from_event, [*events, Event("completed", "supervisor")]) == EpochEnd(2, 20, {})
    assert find_last(EpochEnd.from_event, []) is None


def test_a_checkpoint_of_an_older_run_has_no_times() -> None:
    saved = CheckpointSave(step=40, path="step-00000040", seconds=1.5, waited_seconds=0.01)
    assert CheckpointSave.from_event(written(saved)) == saved
    old = Event("checkpoint", "rank 0", 1.0, facts={"step": 40, "path": "step-00000040"})
    assert CheckpointSave.from_event(old) == CheckpointSave(40, "step-00000040", None, None)
