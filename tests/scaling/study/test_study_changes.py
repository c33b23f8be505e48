"""A study changed on the command line, planned on an allocation, without exports, and with runs that shared a node."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from saman.api.study_plans import StudyChanges, prepare_study
from saman.configs import yaml12
from saman.configs.errors import UserError
from saman.launcher.node.machine import Node
from saman.launcher.planning import Options
from saman.runs.folder import RunFolder
from saman.runs.records.summary import Summary
from saman.scaling.analysis.shared_nodes import review_sharing, shared_pairs
from saman.scaling.study import execution
from saman.scaling.study.execution import planned_run_states, run_missing
from saman.scaling.study.plan import StudyPlan

STUDY = """
name: changed
experiment: quickstart
set: {batch_size: 64, train.epochs: 1}
scaling: strong
axes: {strategy: [horovod, mirrored], ranks: [1, 2, 4]}
repeats: 2
"""


def plan(folder: Path, *settings: str, exclude: tuple[str, ...] = (), text: str = STUDY) -> StudyPlan:
    (folder / "study.yaml").write_text(text)
    changes = StudyChanges(settings, exclude)
    return prepare_study(str(folder / "study.yaml"), folder / "runs", changes=changes).plan


def cells(found: StudyPlan) -> set[tuple[Any, ...]]:
    return {tuple(run.settings.values()) for run in found.runs}


def test_a_key_of_the_study_an_axis_and_a_key_of_the_experiment_can_be_set(tmp_path: Path) -> None:
    found = plan(tmp_path, "repeats=1", "ranks=[1, 2]", "strategy=horovod", "train.epochs=7")
    assert cells(found) == {("horovod", 1), ("horovod", 2)} and len(found.runs) == 2
    assert {run.loaded.experiment.train.epochs for run in found.runs} == {7}
    with pytest.raises(UserError, match="no 'rank'"):
        plan(tmp_path, "rank=2")


def test_excluded_cells_are_not_run_and_not_missing_and_are_named(tmp_path: Path) -> None:
    found = plan(tmp_path, exclude=("ranks=4", "ranks=2,strategy=mirrored"))
    assert cells(found) == {("horovod", 1), ("mirrored", 1), ("horovod", 2)}
    assert len(found.impossible) == 3 and {reason for _, reason in found.impossible} == {"excluded on the command line"}
    assert len(found.record().runs) == 6


@pytest.mark.parametrize(
    ("exclude", "words"), [("rank=4", "no axis is called 'rank'"), ("ranks=8", "no combination"), ("node7", "no axis")]
)
def test_an_excluded_cell_that_does_not_exist_is_refused(tmp_path: Path, exclude: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        plan(tmp_path, exclude=(exclude,))


def test_on_a_cluster_its_keys_can_be_set_and_nodes_avoided(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    changes = StudyChanges(("account=other", "repeats=1"), ("node7", "ranks=4"))
    found = prepare_study(str(tmp_path / "study.yaml"), tmp_path / "runs", "minicluster", None, changes)
    assert found.cluster is not None and found.cluster.account == "other" and found.avoid == ("node7",)
    assert len(found.plan.runs) == 4


def test_inside_an_allocation_a_study_is_planned_on_its_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    salloc = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_CPUS_PER_NODE": "96,64"}
    for name, value in {**salloc, "SLURM_GPUS_ON_NODE": "0"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "study.yaml").write_text(STUDY)
    found = prepare_study(str(tmp_path / "study.yaml"), tmp_path / "runs")
    assert found.nodes is not None and [node.name for node in found.nodes] == ["n1", "n2"]
    assert found.plan.cores_per_rank == 64 // 4


def test_a_study_in_an_allocation_starts_its_runs_on_the_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Options] = []

    def stop(loaded: object, options: Options, view: object) -> Any:
        started.append(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "run_locally", stop)
    nodes = (Node("n1", 64), Node("n2", 64))
    with pytest.raises(KeyboardInterrupt):
        next(run_missing(plan(tmp_path), tmp_path / "runs", nodes=nodes))
    assert [options.nodes for options in started] == [nodes]


def test_runs_of_a_study_leave_no_export_unless_the_study_asks_for_it(tmp_path: Path) -> None:
    assert not any(run.loaded.experiment.export for run in plan(tmp_path).runs)
    assert all(run.loaded.experiment.export for run in plan(tmp_path, "exports=true").runs)
    assert all(run.loaded.experiment.export for run in plan(tmp_path, "export=true").runs)


def test_runs_of_an_older_study_which_exported_still_count(tmp_path: Path) -> None:
    """An older saman wrote experiments without the key, and every run exported."""
    found, runs = plan(tmp_path), tmp_path / "runs"
    older = found.runs[0].loaded.experiment.model_copy(update={"export": True})
    run = RunFolder.create(runs, older)
    values = yaml12.read(run.experiment_file)
    del values["export"]
    run.experiment_file.write_text(yaml12.dump(values))
    run.append("completed", "supervisor", 1)
    run.write_summary(Summary("completed", seconds=36.0))
    assert [status.state for status in planned_run_states(found, runs)].count("done") == 1
    exporting = planned_run_states(plan(tmp_path, "exports=true"), runs)
    assert [status.state for status in exporting].count("done") == 1


def test_a_model_that_is_to_be_published_is_exported(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be published"):
        plan(tmp_path, "publish={model: m}")


def measured(run_id: str, started: float, seconds: float, *nodes: str) -> Any:
    return SimpleNamespace(
        facts=SimpleNamespace(id=run_id, started=started),
        measured=SimpleNamespace(wall_seconds=seconds, node_of=dict(enumerate(nodes))),
    )


def test_runs_on_a_node_at_the_same_time_are_found_and_others_are_not() -> None:
    first, second = measured("a", 0, 10, "n1", "n2"), measured("b", 5, 10, "n2", "n2")
    later, elsewhere = measured("c", 15, 10, "n2"), measured("d", 0, 99, "n3")
    assert shared_pairs([later, second, elsewhere, first]) == [("a", "b", "n2")]
    (finding,) = review_sharing([first, second], on_cluster=2, permitted=False)
    assert not finding.note and "a and b on n2" in finding.text
    (note,) = review_sharing([first, later], on_cluster=2, permitted=True)
    assert note.note and "whole_nodes: false" in note.text
    assert not list(review_sharing([first, later], on_cluster=0, permitted=True))
    assert replace(note, note=False).kind is finding.kind
