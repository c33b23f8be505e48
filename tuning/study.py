"""Runs a tuning study from its first trial, or from where it stopped, to the published model."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.private_values import public_changes
from saman.runs.files.whole import write_json
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.locks import LockHeldError, hold
from saman.runs.paths.runs_folder import StudyPaths
from saman.tuning.campaign import Search, node_hours
from saman.tuning.confirmation import Confirmed, Confirming, read_confirmed
from saman.tuning.ledger import Ledger, make_study_folder
from saman.tuning.places.known_runs import KnownRuns
from saman.tuning.places.place import Place
from saman.tuning.plan import TuningPlan
from saman.tuning.trials import Trial, TrialOutcome, best_trial, outcomes, pareto_front


@dataclass(frozen=True)
class TuningResult:
    """A study as it stands.

    Attributes:
        plan: The study.
        trials: Every trial, in the order of sampling.
        best: The best complete trial; of several objectives that of the Pareto front with the best first objective.
        confirmed: The best trial with other seeds, and the publication; ``None`` before.
        node_hours: Node-hours of all runs.
        importances: The importance of each key, by objective; empty where too few trials are complete.
    """

    plan: TuningPlan
    trials: tuple[Trial, ...]
    best: Trial | None
    confirmed: Confirmed | None
    node_hours: float
    importances: tuple[Mapping[str, float], ...] = ()

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes(self.trials).items())
        return f"<saman.TuningResult {self.plan.study.name}: {counts or 'no trials'}>"

    @property
    def front(self) -> list[Trial]:
        """The Pareto front of several objectives; empty for a single objective."""
        objectives = self.plan.study.objectives
        return pareto_front(self.trials, objectives) if len(objectives) > 1 else []

    def to_json(self) -> dict[str, Any]:
        """Plain values, as ``saman tune --json`` prints them."""
        study = self.plan.study
        return {
            "study": study.name,
            "objectives": [objective.model_dump(mode="json") for objective in study.objectives],
            "outcomes": outcomes(self.trials),
            "most_trials": study.most_trials,
            "node_hours": self.node_hours,
            "best": self.best.to_json() if self.best else None,
            "importances": {
                objective.metric: dict(found)
                for objective, found in zip(study.objectives, self.importances, strict=False)
            },
            "front": [trial.number for trial in self.front],
            "trials": [trial.to_json() for trial in self.trials],
            **self._confirmed(),
        }

    def _confirmed(self) -> dict[str, Any]:
        if self.confirmed is None:
            return {}
        published = self.confirmed.published
        seeds = [{"seed": each.seed, "run": each.run, "value": each.value} for each in self.confirmed.seeds]
        if published.version is None:
            return {"seeds": seeds, "not_published": published.reason}
        version = {"model": published.model, "version": published.version}
        version |= {} if published.path is None else {"path": str(published.path)}
        return {"seeds": seeds, "published": {**version, "run": published.run}}


def run_study(
    plan: TuningPlan,
    place: Place,
    runs_dir: Path,
    models_dir: Path,
    continued: Sequence[int] = (),
    say: Callable[[str], None] = lambda text: None,
) -> TuningResult:
    """Search, train the best trial with other seeds, publish. The same call goes on where an earlier one stopped.

    Args:
        plan: The study.
        place: Where its runs are started.
        runs_dir: The folder of runs.
        models_dir: The folder of models.
        continued: Pruned trials to continue to their end.
        say: Receives a sentence at the end of each trial.

    Raises:
        UserError: Another process runs the study, or its runs do not fit the place.
        EnvironmentLack: Optuna is missing, or the trials cannot be written.
    """
    with hold_tuning(plan, runs_dir) as paths:
        ledger = Ledger(plan.study, paths, plan.epochs)
        runs = KnownRuns(place, runs_dir, plan.study.name, ledger.token)
        try:
            for number in continued:
                _continue(plan, ledger, number)
            Search(plan, ledger, runs, say).run()
            confirmed = _confirm(plan, ledger, runs, models_dir, say)
        except KeyboardInterrupt:
            runs.close()
            raise
        return _result(plan, ledger, runs, confirmed)


def read_study(plan: TuningPlan, place: Place, runs_dir: Path) -> TuningResult:
    """The study as it stands, without starting anything; its storage is created if it is missing."""
    paths = plan.paths(runs_dir)
    if plan.study.storage is None and not paths.journal.is_file():
        return TuningResult(plan, (), None, None, 0.0, ({},) * len(plan.study.objectives))
    ledger = Ledger(plan.study, paths, plan.epochs)
    runs = KnownRuns(place, runs_dir, plan.study.name, ledger.token)
    best = best_trial(ledger.trials(), plan.study.objectives)
    return _result(plan, ledger, runs, read_confirmed(plan, runs, best) if best is not None else None)


def _result(plan: TuningPlan, ledger: Ledger, runs: KnownRuns, confirmed: Confirmed | None) -> TuningResult:
    trials = tuple(ledger.trials())
    hours = sum(node_hours(run) for run in runs.all())
    importances = tuple(ledger.importances(number) for number in range(len(plan.study.objectives)))
    return TuningResult(plan, trials, best_trial(trials, plan.study.objectives), confirmed, hours, importances)


def _confirm(
    plan: TuningPlan, ledger: Ledger, runs: KnownRuns, models_dir: Path, say: Callable[[str], None]
) -> Confirmed | None:
    trials = ledger.trials()
    best = best_trial(trials, plan.study.objectives)
    if plan.study.confirm is None or best is None:
        return None
    say(f"trial {best.number} is the best; training it with {len(plan.study.confirm.seed_list)} seeds")
    return Confirming(plan, runs, models_dir, say).run(best, trials)


def _continue(plan: TuningPlan, ledger: Ledger, number: int) -> None:
    """Sample a trial with the values of a pruned one; it goes on in the same run."""
    trials = ledger.trials()
    trial = next((each for each in trials if each.number == number), None)
    where = f"--continue {number}"
    pruned = [each.number for each in trials if each.outcome is TrialOutcome.PRUNED]
    if trial is None or trial.outcome is not TrialOutcome.PRUNED:
        state = "is unknown" if trial is None else f"is {trial.outcome}"
        remedy = f"pruned trials: {', '.join(map(str, pruned)) or 'none'}"
        raise UserError(f"trial {number} {state}", where=where, remedy=remedy)
    if (other := next((each for each in trials if each.continues == number), None)) is not None:
        raise UserError(f"trial {other.number} continues it", where=where)
    ledger.enqueue(trial.settings, continues=number)
    ledger.ask()


@contextlib.contextmanager
def hold_tuning(plan: TuningPlan, runs_dir: Path) -> Iterator[StudyPaths]:
    """Hold the study, and keep its file beside its runs.

    Raises:
        UserError: Another process runs the study.
    """
    paths = plan.paths(runs_dir)
    with explain_write_errors(paths.path, "the study"), contextlib.ExitStack() as stack:
        make_study_folder(paths)
        try:
            stack.enter_context(hold(paths.lock))
        except LockHeldError as held:
            problem, remedy = "this study is being run already", f"under {held.holder}"
            raise UserError(problem, where=str(paths.path), remedy=remedy) from None
        study = {name: value for name, value in public_changes(plan.study.resolved()).items() if name != "storage"}
        write_json(paths.tuning, {"schema": 1, "study": study, "file": str(plan.file.resolve())})
        yield paths
