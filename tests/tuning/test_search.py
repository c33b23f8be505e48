"""The life of trials: none lost, none double, whatever is killed; bad, failed and killed ones told apart."""

from __future__ import annotations

import io
import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.tuning.kit import EPOCHS, PretendedPlace, killer, plan

from saman.cli.studies.tune import show_result
from saman.configs.errors import EnvironmentLack, UserError
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.tuning import campaign
from saman.tuning.plan import RunSpec
from saman.tuning.study import TuningResult, read_study, run_study
from saman.tuning.trials import TrialOutcome

pytestmark = pytest.mark.tune


@pytest.fixture(autouse=True)
def _no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no machine fails here


def search(folder: Path, place: PretendedPlace, continued: tuple[int, ...] = (), **changes: Any) -> TuningResult:
    return run_study(plan(folder, **changes), place, place.runs_dir, folder / "models", continued)


def test_every_trial_runs_to_its_end_without_a_pruner(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs")
    result = search(tmp_path, place)
    assert [trial.outcome for trial in result.trials] == [TrialOutcome.COMPLETE] * 12
    assert place.epochs_run == 12 * EPOCHS
    lowest = min(result.trials, key=lambda trial: trial.values or ())
    assert result.best == lowest


def test_killed_trials_go_on_in_their_runs_and_count_once(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs", killer(0.4))
    result = search(tmp_path, place, trials=30)
    assert sorted(place.made) == sorted(str(number) for number in range(30))
    assert Counter(trial.outcome for trial in result.trials) == {TrialOutcome.COMPLETE: 30}
    retried = sum(trial.retries for trial in result.trials)
    assert retried == place.starts - 30 > 5
    assert place.epochs_run == 30 * EPOCHS  # from the checkpoint, not from the beginning


def test_pruning_saves_most_epochs_and_keeps_the_best(tmp_path: Path) -> None:
    whole = search(tmp_path, PretendedPlace(tmp_path / "a"), trials=30)
    place = PretendedPlace(tmp_path / "b", killer(0.2))
    pruned = search(tmp_path, place, trials=30, pruner="asha")
    assert place.epochs_run < 30 * EPOCHS / 3
    assert whole.best is not None and pruned.best is not None
    assert pruned.best.settings == whole.best.settings  # the same points by the same seed
    assert {trial.outcome for trial in pruned.trials} == {TrialOutcome.COMPLETE, TrialOutcome.PRUNED}


class _Killed(BaseException):
    """The study's own process dies here: nothing is tidied up."""


def test_a_study_that_dies_anywhere_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from saman.tuning.ledger import Ledger

    chance = random.Random(5)

    def deadly(method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if chance.random() < 0.03:
                raise _Killed
            found = method(*args, **kwargs)
            if chance.random() < 0.03:
                raise _Killed
            return found

        return call

    for owner, names in ((Ledger, ("ask", "note", "report", "tell")), (PretendedPlace, ("start", "restart"))):
        for name in names:
            monkeypatch.setattr(owner, name, deadly(getattr(owner, name)))
    place = PretendedPlace(tmp_path / "runs", killer(0.2))
    deaths = 0
    while True:
        try:
            result = search(tmp_path, place, trials=25, pruner="asha")
            break
        except _Killed:
            deaths += 1
    assert deaths > 5
    assert Counter(place.made) == Counter(map(str, range(25)))  # none lost, none double
    assert len(find_runs(tmp_path / "runs")) == 25
    assert len(result.trials) == 25
    assert all(trial.outcome in (TrialOutcome.COMPLETE, TrialOutcome.PRUNED) for trial in result.trials)
    assert len({tuple(trial.settings.values()) for trial in result.trials}) == 25  # no point was sampled twice
    assert not place.going


def test_a_trial_that_is_always_killed_is_given_up_after_its_retries(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs", lambda key, epoch, start: "kill" if key == "2" else None)
    result = search(tmp_path, place, retries={"killed": 2})
    assert result.trials[2].outcome is TrialOutcome.KILLED
    assert place.starts == 12 + 2


def test_a_failed_trial_is_not_started_again_unless_asked(tmp_path: Path) -> None:
    def fate(key: str, epoch: int, start: int) -> str | None:
        return "fail" if key == "1" and start == 1 else None

    result = search(tmp_path / "never", PretendedPlace(tmp_path / "a", fate))
    assert (result.trials[1].outcome, result.trials[1].retries) == (TrialOutcome.FAILED, 0)
    result = search(tmp_path / "once", PretendedPlace(tmp_path / "b", fate), retries={"failed": 1})
    assert (result.trials[1].outcome, result.trials[1].retries) == (TrialOutcome.COMPLETE, 1)


def test_a_diverged_trial_is_bad_and_not_failed(tmp_path: Path) -> None:
    def fate(key: str, epoch: int, start: int) -> str | None:
        return "nan" if key == "3" else None

    whole = search(tmp_path / "whole", PretendedPlace(tmp_path / "a", fate))
    assert whole.trials[3].outcome is TrialOutcome.DIVERGED
    place = PretendedPlace(tmp_path / "b", fate)
    assert search(tmp_path / "pruned", place, pruner="median").trials[3].outcome is TrialOutcome.DIVERGED
    assert place.epochs_run < 12 * EPOCHS  # it did not run to its end


def test_a_pruned_trial_is_continued_in_its_run_and_counts_once(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs")
    first = search(tmp_path, place, pruner="asha")
    number = next(trial.number for trial in first.trials if trial.outcome is TrialOutcome.PRUNED)
    epochs = place.epochs_run
    second = search(tmp_path, place, (number,), pruner="asha")
    continued = second.trials[-1]
    assert (continued.continues, continued.outcome) == (number, TrialOutcome.COMPLETE)
    assert continued.run == first.trials[number].run
    assert place.epochs_run - epochs == EPOCHS - len(first.trials[number].epochs)
    assert sum(second.to_json()["outcomes"].values()) == 12
    with pytest.raises(UserError):
        search(tmp_path, place, (number,), pruner="asha")
    with pytest.raises(UserError):
        search(tmp_path, place, (99,), pruner="asha")


def test_a_finished_study_starts_nothing_and_can_grow(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs")
    before = search(tmp_path, place)
    assert search(tmp_path, place).trials == before.trials
    assert place.starts == 12
    more = search(tmp_path, place, trials=15)
    assert more.trials[:12] == before.trials
    assert len({tuple(trial.settings.values()) for trial in more.trials}) == 15  # new points, not the first ones again


def test_a_changed_space_is_refused(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs")
    search(tmp_path, place)
    with pytest.raises(UserError, match="another space"):
        search(tmp_path, place, space={"x": [1.0], "y": [2.0]})


def test_runs_of_a_removed_storage_are_left_alone(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs")
    search(tmp_path, place)
    plan(tmp_path).paths(place.runs_dir).journal.unlink()
    search(tmp_path, place, seed=1)
    assert place.starts == 24


def test_a_start_that_breaks_off_halfway_doubles_nothing(tmp_path: Path) -> None:
    class Halfway(PretendedPlace):
        """Refuses together what it takes one by one, after it has started a part, as Slurm may."""

        def start(self, specs: Sequence[RunSpec]) -> list[RunFolder]:
            started = super().start(specs[:2])
            if len(specs) > 2:
                raise UserError("an array is refused")
            return started

    place = Halfway(tmp_path / "runs")
    result = search(tmp_path, place)
    assert Counter(place.made) == Counter(map(str, range(12)))
    assert {trial.outcome for trial in result.trials} == {TrialOutcome.COMPLETE}


def test_a_place_that_does_not_answer_for_a_while_costs_no_trial(tmp_path: Path) -> None:
    class Silent(PretendedPlace):
        calls = 0

        def start(self, specs: Sequence[RunSpec]) -> list[RunFolder]:
            self.calls += 1
            if self.calls % 2:
                raise EnvironmentLack("no answer")
            return super().start(specs)

        def restart(self, run: RunFolder) -> None:
            self.calls += 1
            if self.calls % 3 == 0:
                raise EnvironmentLack("no answer")
            super().restart(run)

    result = search(tmp_path, Silent(tmp_path / "runs", killer(0.3)))
    assert {trial.outcome for trial in result.trials} == {TrialOutcome.COMPLETE}


def test_a_study_whose_trials_all_fail_stops(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs", lambda key, epoch, start: "fail")
    with pytest.raises(UserError, match="trials failed"):
        search(tmp_path, place, trials=100)
    assert place.starts < 20


def test_the_budget_holds(tmp_path: Path) -> None:
    place = PretendedPlace(tmp_path / "runs")
    result = search(tmp_path, place, trials=None, node_hours=0.5)  # each may cost its time limit, an hour
    assert result.trials == ()


@pytest.mark.parametrize("sampler", ["tpe", "cma_es", "random"])
def test_samplers_find_the_bottom_of_the_bowl(tmp_path: Path, sampler: str) -> None:
    result = search(tmp_path, PretendedPlace(tmp_path / "runs"), sampler=sampler, trials=24, concurrency=2)
    assert result.best is not None and result.best.values is not None
    assert result.best.values[0] < 0.011 + 0.1  # exp(-9/2) remains of the start


def test_a_grid_is_covered_once(tmp_path: Path) -> None:
    space = {"x": [-1.0, 0.0, 1.0], "y": {"low": -1.0, "high": 1.0, "step": 0.5}}
    place = PretendedPlace(tmp_path / "runs", killer(0.2))
    result = search(tmp_path, place, sampler="grid", trials=None, space=space)
    points = [(trial.settings["x"], trial.settings["y"]) for trial in result.trials]
    assert sorted(points) == [(x, y) for x in (-1.0, 0.0, 1.0) for y in (-1.0, -0.5, 0.0, 0.5, 1.0)]


def test_several_objectives_give_a_front(tmp_path: Path) -> None:
    two = [{"metric": "loss", "goal": "minimize"}, {"metric": "x", "goal": "maximize"}]
    place = PretendedPlace(tmp_path / "runs")
    result = search(tmp_path, place, objective=None, objectives=two, sampler="tpe")
    values = {trial.number: trial.values for trial in result.trials if trial.values}
    front = [
        number
        for number, (loss, x) in values.items()
        if not any(other[0] <= loss and other[1] >= x and other != (loss, x) for other in values.values())
    ]
    assert result.to_json()["front"] == front
    seen = io.StringIO()
    show_result(Console(file=seen, width=200), result)
    assert f"Pareto front: {', '.join(f'trial {number}' for number in front)}\n" in seen.getvalue()
    assert result.best is not None and result.best.values == min(values.values())
    with pytest.raises(UserError):
        plan(tmp_path, objective=None, objectives=two, pruner="asha")


def test_a_look_without_a_study_makes_nothing(tmp_path: Path) -> None:
    result = read_study(plan(tmp_path), PretendedPlace(tmp_path / "runs"), tmp_path / "runs")
    assert result.trials == () and not (tmp_path / "runs").exists()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    from saman.tuning.study import hold_tuning

    place = PretendedPlace(tmp_path / "runs")
    with hold_tuning(plan(tmp_path), place.runs_dir), pytest.raises(UserError, match="being run already"):
        search(tmp_path, place)


def test_a_database_holds_the_trials_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("TUNE_DB", f"sqlite:///{tmp_path / 'trials.db'}")
    place = PretendedPlace(tmp_path / "runs")
    result = search(tmp_path, place, storage="${env:TUNE_DB}", trials=3)
    assert len(result.trials) == 3 and not plan(tmp_path).paths(place.runs_dir).journal.exists()
    assert "trials.db" not in plan(tmp_path).paths(place.runs_dir).tuning.read_text()
