"""Which runs fill a study's plan."""

from __future__ import annotations

from pathlib import Path

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.experiments import load_experiment
from saman.configs.schemas.experiment import digest_of
from saman.runs import locks
from saman.runs.folder import RunFolder
from saman.runs.studies import StudyRunState, fill_plan, find_study, planned_digest, study_run_state

EXPERIMENT = load_experiment("quickstart", ["name=curve"]).experiment
DIGEST = EXPERIMENT.digest()


def made(runs: Path, *kinds: str) -> RunFolder:
    """A run that these events have happened to."""
    run = RunFolder.create(runs, EXPERIMENT)
    for kind in kinds:
        run.append(kind, "test")
    return run


def test_completed_runs_fill_a_plan_first_then_those_under_way_then_the_newest_failed(tmp_path: Path) -> None:
    kinds = ("failed", "completed", "queued", "failed", "completed")
    failed, done, waiting, later, again = (made(tmp_path, kind) for kind in kinds)
    runs = [failed, done, waiting, later, again]
    placed = fill_plan({DIGEST: 4, "other": 1}, runs)
    assert [study_run.run for study_run in placed[DIGEST]] == [again, done, waiting, later]
    assert [str(study_run.state) for study_run in placed[DIGEST]] == ["done", "done", "waiting", "failed"]
    assert placed["other"] == []


def test_a_local_run_is_under_way_only_while_it_is_supervised(tmp_path: Path) -> None:
    run = made(tmp_path, "attempt_started")
    assert study_run_state(run) is StudyRunState.FAILED
    with locks.hold(run.supervisor_lock):
        assert study_run_state(run) is StudyRunState.WAITING


def test_a_run_that_an_earlier_saman_wrote_is_still_in_the_plan(tmp_path: Path) -> None:
    run = made(tmp_path)
    values = EXPERIMENT.resolved()
    del values["tracking"]  # a key that came later, with a default
    from saman.configs import yaml12

    run.experiment_file.write_text(yaml12.dump(values))
    written = digest_of(values)
    assert written != DIGEST
    assert planned_digest(run, {DIGEST}) == DIGEST  # a plan made today
    assert planned_digest(run, {written}) == written  # the plan of that time
    assert planned_digest(run, {"other"}) is None


def test_a_study_is_found_by_name_file_or_folder(tmp_path: Path) -> None:
    made(tmp_path)
    folder = tmp_path / "curve"
    assert find_study("curve", tmp_path) is None
    file = tmp_path / "of_a_study.yaml"
    file.write_text("name: curve\nexperiment: quickstart\nscaling: strong\naxes: {ranks: [1, 2]}\n")
    (folder / "study.json").write_text("{}")
    for text in ("curve", str(folder), str(file)):
        found = find_study(text, tmp_path)
        assert found is not None and found.path == folder, text
    file.write_text("name: curve\n")
    with pytest.raises(UserError):
        find_study(str(file), tmp_path)
