"""Commands over thousands of runs read no YAML: what they need stands in the first event of a run."""

import pytest

from saman.configs.schemas.experiment import Experiment
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import CreatedExperiment
from saman.runs.studies import planned_digest

PLAIN = {
    "name": "small",
    "model": {"build": "mlp", "args": {"classes": 10}},
    "data": {"source": "digits"},
    "train": {"strategy": "horovod", "epochs": 1, "global_batch_size": 64},
}


@pytest.mark.parametrize("publish", [None, {"model": "digits"}])
def test_the_first_event_has_the_digest_and_whether_the_run_publishes(tmp_path, publish):
    experiment = Experiment.model_validate({**PLAIN, "publish": publish})
    run = RunFolder.create(tmp_path, experiment)
    found = CreatedExperiment.find(run.events())
    assert found == CreatedExperiment(experiment.digest(), publish is not None)
    assert planned_digest(run, {experiment.digest()}) == experiment.digest()


def test_a_planned_run_is_recognised_without_its_file_and_an_older_run_by_it(tmp_path):
    experiment = Experiment.model_validate(PLAIN)
    run, older = RunFolder.create(tmp_path, experiment), RunFolder.create(tmp_path, experiment)
    run.experiment_file.write_text("not: [yaml")
    assert planned_digest(run, {experiment.digest()}) == experiment.digest()
    lines = older.events_file.read_text().replace('"digest"', '"other"')
    older.events_file.write_text(lines)
    assert planned_digest(older, {experiment.digest()}) == experiment.digest()


def test_events_are_read_again_after_another_process_has_appended_one(tmp_path):
    run = RunFolder.create(tmp_path, Experiment.model_validate(PLAIN))
    assert [event.kind for event in run.events()] == ["created"]
    RunFolder(run.path).append("queued", "submitter", job="7", cluster="here")
    assert [event.kind for event in run.events()] == ["created", "queued"]
