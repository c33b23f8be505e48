"""Executes a study: finds the missing runs, and runs or submits them."""

from __future__ import annotations

import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import ExitCode, UserError
from saman.launcher.local import run_locally
from saman.launcher.node.bandwidth import measure_bandwidth
from saman.launcher.node.machine import Node
from saman.launcher.planning import Options
from saman.launcher.supervision.outcome import Outcome
from saman.launcher.supervision.views import View
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.locks import LockHeldError, hold
from saman.runs.paths.runs_folder import StudyPaths
from saman.runs.studies import StudyRun, StudyRunState, fill_plan
from saman.scaling.study.energy import EnergyMeter
from saman.scaling.study.plan import PlannedRun, StudyPlan

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedRunStatus:
    """The state of a planned run, the run folder that fills it, and the node-hours of that run."""

    planned: PlannedRun
    run: RunFolder | None
    state: StudyRunState
    node_hours: float

    @property
    def to_run(self) -> bool:
        """Whether the run failed or is missing."""
        return self.state in (StudyRunState.FAILED, StudyRunState.MISSING)


@dataclass(frozen=True)
class StudyCost:
    """Node-hours of a study.

    Attributes:
        used: By its runs so far.
        expected: Estimated cost of outstanding runs, from completed runs of the same configuration.
        bound: The most that outstanding runs may cost, by their time limits.
    """

    used: float
    expected: float
    bound: float


def planned_run_states(plan: StudyPlan, runs_dir: Path) -> list[PlannedRunStatus]:
    """The status of every planned run during execution, in the plan's order; completed runs fill the repeats first."""
    placed = fill_plan(plan.record().repeats, find_runs(runs_dir, plan.study.name))
    found = {}
    for planned in sorted(plan.runs, key=lambda planned: planned.repeat):
        queue = placed[planned.digest]
        found[planned.key] = _status(planned, queue.pop(0) if queue else None)
    return [found[planned.key] for planned in plan.runs]


def unfinished_runs(plan: StudyPlan, runs_dir: Path) -> list[RunFolder]:
    """Runs that the execution of a study began without a recorded end, oldest first."""
    return [run for run in find_runs(runs_dir, plan.study.name) if not run.state.ended]


def study_exit_code(outcomes: Sequence[Outcome]) -> ExitCode:
    """The exit status of a study's execution: interrupted, failed if any run failed, else done."""
    if any(outcome.exit_code == ExitCode.INTERRUPTED for outcome in outcomes):
        return ExitCode.INTERRUPTED
    return ExitCode.RUN_FAILED if any(outcome.exit_code for outcome in outcomes) else ExitCode.DONE


def _status(planned: PlannedRun, placed: StudyRun | None) -> PlannedRunStatus:
    if placed is None:
        return PlannedRunStatus(planned, None, StudyRunState.MISSING, 0.0)
    summary = placed.run.summary()
    hours = planned.nodes * (summary.seconds or 0.0) / 3600 if summary else 0.0
    return PlannedRunStatus(planned, placed.run, placed.state, hours)


def cost(found: Sequence[PlannedRunStatus]) -> StudyCost:
    """Node-hours used and expected; without a completed run of its configuration a run costs its time limit."""
    completed: dict[str, list[float]] = defaultdict(list)
    for status in found:
        if status.state is StudyRunState.DONE:
            completed[status.planned.digest].append(status.node_hours)
    todo = [status.planned for status in found if status.to_run]
    expected = sum(
        sum(completed[run.digest]) / len(completed[run.digest]) if completed[run.digest] else run.node_hours_bound
        for run in todo
    )
    used = sum(status.node_hours for status in found)
    return StudyCost(used, expected, sum(run.node_hours_bound for run in todo))


def check_limit(plan: StudyPlan, costs: StudyCost) -> None:
    """Check a study against its cap on node-hours.

    Raises:
        UserError: Used and expected node-hours exceed the cap.
    """
    limit = plan.study.node_hours_limit
    if limit is not None and costs.used + costs.expected > limit:
        raise UserError(
            f"{costs.used:.2f} node-hours used and {costs.expected:.2f} more expected exceed the cap of {limit:g}",
            where=f"{plan.file}: node_hours_limit",
            remedy="a shorter resources.time_limit, fewer repeats, or a higher cap",
        )


@contextlib.contextmanager
def hold_study(plan: StudyPlan, runs_dir: Path) -> Iterator[Path]:
    """Before a study's execution: lock its folder and record the plan there; yields the folder.

    Raises:
        UserError: Another process holds the study.
    """
    study = StudyPaths.of(runs_dir, plan.study.name)
    folder = study.path
    with explain_write_errors(folder, "the study"):
        folder.mkdir(parents=True, exist_ok=True)
    with explain_write_errors(folder, "the study"), contextlib.ExitStack() as stack:
        try:
            stack.enter_context(hold(study.lock))
        except LockHeldError as held:
            problem, remedy = "this study is being run already", f"under {held.holder}"
            raise UserError(problem, where=str(folder), remedy=remedy) from None
        plan.record().write(study.record)
        yield folder


def run_missing(
    plan: StudyPlan,
    runs_dir: Path,
    view: Callable[[PlannedRun], View | None] | None = None,
    nodes: tuple[Node, ...] | None = None,
) -> Iterator[tuple[PlannedRun, Outcome]]:
    """Run missing and failed runs on this machine, in the plan's order, until done or interrupted.

    Args:
        plan: The study's plan.
        runs_dir: Folder of the runs.
        view: Makes the progress view of a run.
        nodes: The nodes of the Slurm allocation around this process; ``None`` for this machine.

    Yields:
        Each planned run with its outcome.

    Raises:
        UserError: Another process holds the study, or the next run could exceed the cap on node-hours.
    """
    with hold_study(plan, runs_dir):
        todo = [status.planned for status in planned_run_states(plan, runs_dir) if status.to_run]
        check_limit(plan, cost(planned_run_states(plan, runs_dir)))
        _log.debug("%s: %d of %d runs to do", plan.study.name, len(todo), len(plan.runs))
        if todo:
            measure_bandwidth()  # before the runs, which would compete with it
        for planned in todo:
            command = ("saman", "study", str(plan.file))
            options = Options(runs_dir=runs_dir, command_line=command, nodes=nodes)
            with EnergyMeter() as meter:
                outcome = run_locally(planned.loaded, options, view(planned) if view else None)
            meter.record(outcome.run.path)
            yield planned, outcome
            if outcome.exit_code == ExitCode.INTERRUPTED:
                return
            check_limit(plan, cost(planned_run_states(plan, runs_dir)))


def submit_missing(plan: StudyPlan, runs_dir: Path, submit: Callable[[Sequence[PlannedRun]], None]) -> list[PlannedRun]:
    """Submit the missing and failed runs of a study.

    Args:
        plan: The study's plan.
        runs_dir: Folder of the runs.
        submit: Called once with all of them, unless there are none.

    Returns:
        The submitted runs.

    Raises:
        UserError: Another process holds the study, or its runs could exceed the cap on node-hours.
    """
    with hold_study(plan, runs_dir):
        found = planned_run_states(plan, runs_dir)
        check_limit(plan, cost(found))
        todo = [status.planned for status in found if status.to_run]
        if todo:
            submit(todo)
        return todo
