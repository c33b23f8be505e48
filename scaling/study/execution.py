"""Doing a study: what is done, what is missing, and running that, one after another or by a given submitter."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import ExitCode, UserError
from saman.configs.files import explained
from saman.launcher.local import run_locally
from saman.launcher.planning import Options
from saman.launcher.supervision.outcome import Outcome
from saman.launcher.supervision.views import View
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.locks import LockHeldError, hold
from saman.runs.paths import StudyPaths
from saman.runs.studies import RunStanding, Standing, fill_plan
from saman.scaling.study.energy import read_meters, record_energy
from saman.scaling.study.plan import PlannedRun, StudyPlan


@dataclass(frozen=True)
class PlannedRunStatus:
    """Progress of a planned run, its newest start, and the node-hours of that."""

    planned: PlannedRun
    run: RunFolder | None
    stands: Standing
    node_hours: float

    @property
    def wanted(self) -> bool:
        """Whether it is to be run."""
        return self.stands in (Standing.FAILED, Standing.MISSING)


@dataclass(frozen=True)
class StudyCost:
    """Node-hours of a study: what its runs have used, and what those still wanted take by the likes of them."""

    used: float
    expected: float
    bound: float


def standings(plan: StudyPlan, runs_dir: Path) -> list[PlannedRunStatus]:
    """Tell the progress of every planned run, in the plan's order; completed runs fill the repeats first."""
    placed = fill_plan(plan.record().repeats, find_runs(runs_dir, plan.study.name))
    found = {}
    for planned in sorted(plan.runs, key=lambda planned: planned.repeat):
        queue = placed[planned.digest]
        found[planned.key] = _status(planned, queue.pop(0) if queue else None)
    return [found[planned.key] for planned in plan.runs]


def unfinished_runs(plan: StudyPlan, runs_dir: Path) -> list[RunFolder]:
    """Runs of the study without a recorded end, oldest first."""
    return [run for run in find_runs(runs_dir, plan.study.name) if not run.state.ended]


def study_exit_code(outcomes: Sequence[Outcome]) -> ExitCode:
    """Exit status of a study: interrupted, failed if any run failed, else done."""
    if any(outcome.exit_code == ExitCode.INTERRUPTED for outcome in outcomes):
        return ExitCode.INTERRUPTED
    return ExitCode.RUN_FAILED if any(outcome.exit_code for outcome in outcomes) else ExitCode.DONE


def _status(planned: PlannedRun, placed: RunStanding | None) -> PlannedRunStatus:
    if placed is None:
        return PlannedRunStatus(planned, None, Standing.MISSING, 0.0)
    summary = placed.run.summary()
    hours = planned.nodes * (summary.seconds or 0.0) / 3600 if summary else 0.0
    return PlannedRunStatus(planned, placed.run, placed.standing, hours)


def cost(found: Sequence[PlannedRunStatus]) -> StudyCost:
    """Used and expected node-hours. A run like one that was done is expected to cost as much, else its time limit."""
    used = sum(one.node_hours for one in found)
    like: dict[str, list[float]] = defaultdict(list)
    for one in found:
        if one.stands is Standing.DONE:
            like[one.planned.digest].append(one.node_hours)
    wanted = [one.planned for one in found if one.wanted]
    expected = sum(
        sum(like[run.digest]) / len(like[run.digest]) if like[run.digest] else run.node_hours_bound for run in wanted
    )
    return StudyCost(used, expected, sum(run.node_hours_bound for run in wanted))


def check_limit(plan: StudyPlan, costs: StudyCost) -> None:
    """Raise ``UserError`` where the study may go over its cap on node-hours."""
    limit = plan.study.node_hours_limit
    if limit is not None and costs.used + costs.expected > limit:
        raise UserError(
            f"{costs.used:.2f} node-hours are used, {costs.expected:.2f} more are expected, and the cap is {limit:g}",
            where=f"{plan.file}: node_hours_limit",
            remedy="a shorter resources.time_limit, fewer repeats, or a higher cap",
        )


@contextlib.contextmanager
def sole(plan: StudyPlan, runs_dir: Path) -> Iterator[Path]:
    """Be the only one who does this study; records the plan. Raises ``UserError`` where another one is at it."""
    study = StudyPaths.of(runs_dir, plan.study.name)
    folder = study.path
    with explained(folder, "the study"):
        folder.mkdir(parents=True, exist_ok=True)
    with explained(folder, "the study"), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(study.lock))
        except LockHeldError as held:
            problem, remedy = "this study is being run already", f"under {held.holder}"
            raise UserError(problem, where=str(folder), remedy=remedy) from None
        plan.record().write(study.record)
        yield folder


def run_missing(
    plan: StudyPlan, runs_dir: Path, view: Callable[[PlannedRun], View | None] | None = None
) -> Iterator[tuple[PlannedRun, Outcome]]:
    """Run here what is missing or failed, one after another, in the plan's order; stops when interrupted.

    Raises ``UserError`` before a run that could take the study over its cap.
    """
    with sole(plan, runs_dir):
        todo = [one.planned for one in standings(plan, runs_dir) if one.wanted]
        check_limit(plan, cost(standings(plan, runs_dir)))
        for planned in todo:
            before = read_meters()
            command = ("saman", "study", str(plan.file))
            options = Options(runs_dir=runs_dir, command_line=command)
            outcome = run_locally(planned.loaded, options, view(planned) if view else None)
            record_energy(outcome.run.path, before, read_meters())
            yield planned, outcome
            if outcome.exit_code == ExitCode.INTERRUPTED:
                return
            check_limit(plan, cost(standings(plan, runs_dir)))


def submit_missing(plan: StudyPlan, runs_dir: Path, submit: Callable[[Sequence[PlannedRun]], None]) -> list[PlannedRun]:
    """Hand what is missing or failed to ``submit``, all at once; returns it."""
    with sole(plan, runs_dir):
        found = standings(plan, runs_dir)
        check_limit(plan, cost(found))
        todo = [one.planned for one in found if one.wanted]
        if todo:
            submit(todo)
        return todo
