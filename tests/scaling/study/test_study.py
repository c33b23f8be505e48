"""Studies: what is planned, in which order, what counts as done, and that running again runs only what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from saman.configs.errors import UserError
from saman.configs.loading.studies import load_study
from saman.launcher.supervision.run_lock import hold_run
from saman.runs.folder import RunFolder
from saman.runs.records.summary import Summary
from saman.scaling.analysis.results import read_run
from saman.scaling.analysis.sources import find_source, read_source
from saman.scaling.study import execution
from saman.scaling.study.execution import cost, hold_study, planned_run_states, run_missing, submit_missing
from saman.scaling.study.plan import PlannedRun, StudyPlan, make_plan

STUDY = """
name: tried
experiment: quickstart
set: {batch_size: 64, train.epochs: 1}
scaling: strong
axes: {strategy: [single, horovod], ranks: [1, 2]}
repeats: 2
order_seed: 3
"""


def _plan(tmp_path: Path, text: str = STUDY, cores: int = 4) -> StudyPlan:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    return make_plan(*load_study(str(file)), cores)


def _done(planned: PlannedRun, runs_dir: Path, end: str = "completed") -> RunFolder:
    run = RunFolder.create(runs_dir, planned.loaded.experiment)
    run.append("attempt_started", "supervisor", 1)
    if end != "running":
        run.append(end, "supervisor", 1)
        run.write_summary(Summary(end, seconds=36.0))
    return run


def test_every_combination_is_planned_and_the_impossible_is_told_with_its_reason(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    assert len(plan.runs) == 3 * 2
    ((settings, reason),) = plan.impossible
    assert settings == {"strategy": "single", "ranks": 2}
    assert "1 rank" in reason
    assert len({run.key for run in plan.runs}) == 6


def test_the_order_is_random_by_repeat_and_the_same_for_the_same_seed(tmp_path: Path) -> None:
    plan, again = _plan(tmp_path), _plan(tmp_path)
    assert [run.key for run in plan.runs] == [run.key for run in again.runs]
    assert [run.repeat for run in plan.runs] == [1, 1, 1, 2, 2, 2]
    orders = {tuple(r.digest for r in _plan(tmp_path, STUDY.replace("seed: 3", f"seed: {s}")).runs) for s in range(6)}
    assert len(orders) > 1


def test_every_run_has_the_same_cores_per_rank(tmp_path: Path) -> None:
    plan = _plan(tmp_path, cores=6)
    assert plan.cores_per_rank == 3
    assert {run.loaded.experiment.resources.cpus_per_rank for run in plan.runs} == {3}
    with pytest.raises(UserError, match="cores per rank cannot vary within a study"):
        _plan(tmp_path, STUDY.replace("ranks: [1, 2]", "resources.cpus_per_rank: [1, 2]"))


def test_a_studys_runs_do_not_publish_and_carry_its_name(tmp_path: Path) -> None:
    experiments = [run.loaded.experiment for run in _plan(tmp_path).runs]
    assert {experiment.publish for experiment in experiments} == {None}
    assert {experiment.name for experiment in experiments} == {"tried"}


def test_batches_that_do_not_suit_the_scaling_are_refused(tmp_path: Path) -> None:
    text = STUDY.replace("batch_size: 64, ", "").replace("strong", "weak")
    with pytest.raises(UserError, match="weak scaling needs train.batch_size_per_rank"):
        _plan(tmp_path, text)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("axes: {strategy: [sinlge], ranks: [1]}", "horovod"),
        ("axes: {}", "axes"),
        ("axes: {ranks: [1, 1]}", "duplicate value"),
        ("axes: {ranks: [many]}", "not a number of ranks"),
        ("axes: {name: [a, b]}", "study's name"),
    ],
)
def test_mistakes_in_a_study_are_refused_with_what_is_right(tmp_path: Path, change: str, words: str) -> None:
    text = STUDY.replace("axes: {strategy: [single, horovod], ranks: [1, 2]}", change)
    with pytest.raises(UserError) as refused:
        _plan(tmp_path, text)
    assert words in str(refused.value)


def test_the_digest_of_a_run_folder_is_that_of_its_plan(tmp_path: Path) -> None:
    planned = _plan(tmp_path).runs[0]
    run = _done(planned, tmp_path / "runs")
    assert run.experiment().digest() == planned.digest == read_run(run.path).facts.digest


def test_what_is_done_counts_and_what_failed_or_was_killed_is_wanted_again(tmp_path: Path) -> None:
    plan, runs = _plan(tmp_path), tmp_path / "runs"
    _done(plan.runs[0], runs)
    _done(plan.runs[1], runs, "failed")
    _done(plan.runs[2], runs, "running")  # nobody supervises it: it was killed
    found = planned_run_states(plan, runs)
    assert [status.state for status in found] == ["done", "failed", "failed", "missing", "missing", "missing"]
    costs = cost(found)
    assert costs.used == pytest.approx(0.02)  # two summaries of 36 s on one node
    assert costs.bound == pytest.approx(5.0)  # five runs of at most an hour


def test_a_run_under_a_live_supervisor_is_waited_for(tmp_path: Path) -> None:
    plan, runs = _plan(tmp_path), tmp_path / "runs"
    run = _done(plan.runs[0], runs, "running")
    with hold_run(run):
        assert planned_run_states(plan, runs)[0].state == "waiting"
    assert planned_run_states(plan, runs)[0].state == "failed"


def _run_by_hand(monkeypatch: pytest.MonkeyPatch, runs: Path, stop_after: int | None = None) -> list[str]:
    """Makes ``run_locally`` leave a completed run without training; returns the digests in the order of their runs."""
    order: list[str] = []

    def run_locally(loaded: Any, options: Any, view: Any = None) -> Any:
        if stop_after is not None and len(order) >= stop_after:
            raise KeyboardInterrupt
        order.append(loaded.experiment.digest())
        planned: Any = SimpleNamespace(loaded=loaded)
        return SimpleNamespace(run=_done(planned, runs), exit_code=0)

    monkeypatch.setattr(execution, "run_locally", run_locally)
    return order


def test_a_killed_study_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, runs = _plan(tmp_path), tmp_path / "runs"
    first = _run_by_hand(monkeypatch, runs, stop_after=2)
    with pytest.raises(KeyboardInterrupt):
        list(run_missing(plan, runs))
    rest = _run_by_hand(monkeypatch, runs)
    list(run_missing(plan, runs))
    assert [*first, *rest] == [run.digest for run in plan.runs]
    assert all(status.state == "done" for status in planned_run_states(plan, runs))
    nothing = _run_by_hand(monkeypatch, runs)
    list(run_missing(plan, runs))
    assert nothing == []


def test_a_cap_on_node_hours_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, runs = _plan(tmp_path, STUDY + "node_hours_limit: 5.5\n"), tmp_path / "runs"
    order = _run_by_hand(monkeypatch, runs)
    with pytest.raises(UserError, match="exceed the cap of 5.5"):
        list(run_missing(plan, runs))
    assert order == []


def test_two_at_once_on_one_study_is_refused(tmp_path: Path) -> None:
    plan = _plan(tmp_path)
    with (
        hold_study(plan, tmp_path / "runs"),
        pytest.raises(UserError, match="already"),
        hold_study(plan, tmp_path / "runs"),
    ):
        pass


def test_a_submitter_gets_all_that_is_missing_at_once(tmp_path: Path) -> None:
    plan, runs = _plan(tmp_path), tmp_path / "runs"
    _done(plan.runs[0], runs)
    given: list[Sequence[PlannedRun]] = []
    assert submit_missing(plan, runs, given.append) == list(plan.runs[1:])
    assert given == [list(plan.runs[1:])]


def test_a_report_names_missing_runs_of_the_plan(tmp_path: Path) -> None:
    plan, runs = _plan(tmp_path), tmp_path / "runs"
    with hold_study(plan, runs) as folder:
        assert json.loads((folder / "study.json").read_text())["study"]["order_seed"] == 3
    _done(plan.runs[0], runs)
    source = find_source([str(tmp_path / "study.yaml")], runs)
    assert source.warmup_windows == 1
    missing = [finding for finding in read_source(source).findings if finding.kind == "missing_runs"]
    assert len(missing) == 3  # the completed run left no telemetry, so it does not count either


def test_shipped_studies_are_possible() -> None:
    from saman.configs.loading.files import shipped

    assert "demo" in shipped("studies")
    for name in shipped("studies"):
        assert make_plan(*load_study(name), 64).runs


GRID = """
name: grid
experiment: quickstart
set: {batch_size: 64, train.epochs: 1}
scaling: strong
axes: {strategy: [horovod, pipeline], stages: [1, 2, 3], micro_batches: [1, 4], ranks: [1, 2, 4]}
repeats: 1
"""


def test_a_grid_of_stages_and_ranks_leaves_out_what_does_not_divide_and_says_so(tmp_path: Path) -> None:
    plan = _plan(tmp_path, GRID)
    kept = {(run.settings["strategy"], run.settings["stages"], run.ranks) for run in plan.runs}
    pipelines = {("pipeline", 1, 1), ("pipeline", 1, 2), ("pipeline", 1, 4), ("pipeline", 2, 2), ("pipeline", 2, 4)}
    assert kept == pipelines | {("horovod", 1, 1), ("horovod", 1, 2), ("horovod", 1, 4)}
    reasons = {(s["strategy"], s["stages"], s["ranks"]): why for s, why in plan.impossible}
    assert "3 stages" in reasons["pipeline", 3, 4]
    assert reasons["horovod", 2, 2] == "horovod does not split a model into 2 stages"
    horovod = next(run for run in plan.runs if run.settings["strategy"] == "horovod")
    assert horovod.loaded.experiment.train.pipeline is None
    assert len({run.loaded.experiment.resources.cpus_per_rank for run in plan.runs}) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("stages: [1, two]", "'two' is not a number of stages"),
        ("stages: [0]", "0 is not a number of stages"),
        ("micro_batches: [true]", "True is not a number of micro-batches"),
        ("stages: [1], train.pipeline.stages: [2]", "the same key"),
    ],
)
def test_an_axis_of_the_grid_holds_numbers_and_is_named_once(tmp_path: Path, change: str, words: str) -> None:
    with pytest.raises(UserError) as refused:
        _plan(tmp_path, GRID.replace("stages: [1, 2, 3], micro_batches: [1, 4]", change))
    assert words in str(refused.value)
