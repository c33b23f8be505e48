"""``saman study``: all runs of a scaling study, one after another on this machine, or as job arrays on a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import RUNS, AfterAny, AfterOk, ClusterOrHere, Json, Partition, RunsDir

if TYPE_CHECKING:
    from rich.console import Console

    from saman.api.study_plans import PreparedStudy
    from saman.configs.schemas.cluster import Cluster
    from saman.launcher.supervision.outcome import Outcome
    from saman.scaling.study.execution import PlannedRunStatus
    from saman.scaling.study.plan import PlannedRun, StudyPlan
    from saman.slurm.dependencies import Dependency
    from saman.slurm.submission.arrays import NoRoom


def study_command(
    name: Annotated[str, typer.Argument(metavar="STUDY", help="A shipped study or a YAML file.")],
    cluster: ClusterOrHere = None,
    partition: Partition = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change the study, an axis, the experiment or, with --cluster, the cluster file (repeatable).",
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            "--exclude",
            metavar="AXIS=VALUE[,…]",
            help="Leave out the combinations with these values; with --cluster also a node to avoid (repeatable).",
        ),
    ] = None,
    after: AfterOk = None,
    after_any: AfterAny = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs with cost and state; start nothing.")
    ] = False,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Run a scaling study. Only runs that are missing or failed are started.

    Examples:

        saman study demo --dry-run

        saman study my-study.yaml --cluster mysite

        saman study my-study.yaml --set repeats=1 --set train.epochs=2 --exclude ranks=8
    """
    from rich.console import Console

    from saman.api.study_plans import StudyChanges, prepare_study
    from saman.configs.errors import UserError
    from saman.jobs.workflows.prerequisites import dependency_on

    changes = StudyChanges(tuple(settings or ()), tuple(exclude or ()))
    prepared = prepare_study(name, runs_dir, cluster, partition, changes)
    console = Console(stderr=as_json)
    if prepared.note:
        typer.echo(prepared.note, err=True)
    if dry_run:
        _show(console, prepared.plan, runs_dir, as_json)
    elif prepared.cluster is not None:
        _submit(prepared, prepared.cluster, as_json, dependency_on(after or (), after_any or (), runs_dir))
    elif after or after_any:
        raise UserError("only jobs of a cluster wait for others", where="--after", remedy="--cluster C")
    else:
        _run(console, prepared, as_json)


def _show(console: Console, plan: StudyPlan, runs_dir: Path, as_json: bool) -> None:
    from saman.scaling.study.execution import check_limit, cost, planned_run_states

    found = planned_run_states(plan, runs_dir)
    costs = cost(found)
    if as_json:
        runs = [
            {**status.planned.to_json(), "state": status.state, "run": status.run and str(status.run.path)}
            for status in found
        ]
        hours = {"used": costs.used, "expected": costs.expected, "at_most": costs.bound}
        typer.echo(json.dumps({**plan.to_json(), "runs": runs, "node_hours": hours}, indent=2))
    else:
        _print_runs(console, plan, found)
        console.print(
            f"node-hours: {costs.used:.3g} used, {costs.expected:.3g} more expected"
            f" (at most {costs.bound:.3g}, by the time limits)"
        )
    check_limit(plan, costs)


def _print_runs(console: Console, plan: StudyPlan, found: Sequence[PlannedRunStatus]) -> None:
    from rich.table import Table

    from saman.runs.studies import StudyRunState

    axes = list(plan.study.axes)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", *axes, "repeat", "nodes", "node-hours", "run"):
        table.add_column(heading, justify="right" if heading in ("", "repeat", "nodes", "node-hours") else "left")
    for number, status in enumerate(found, 1):
        planned = status.planned
        hours = (
            f"{status.node_hours:.3g}" if status.state is StudyRunState.DONE else f"≤ {planned.node_hours_bound:.3g}"
        )
        values = [str(planned.settings[axis]) for axis in axes]
        colour = {"done": "green", "failed": "red", "waiting": "yellow"}.get(status.state, "dim")
        cell = f"[{colour}]{status.state}[/] {status.run.id if status.run else ''}"
        table.add_row(str(number), *values, str(planned.repeat), str(planned.nodes), hours, cell)
    console.print(table)
    for note in plan.notes:
        console.print(note, style="dim")
    for settings, reason in plan.impossible:
        combination = ", ".join(f"{key} {value}" for key, value in settings.items())
        console.print(f"left out: {combination}: {reason}", style="dim")


def _run(console: Console, prepared: PreparedStudy, as_json: bool) -> None:
    from saman.cli.runs.view import RunView
    from saman.scaling.study.execution import planned_run_states, run_missing, study_exit_code

    plan, runs_dir = prepared.plan, prepared.runs_dir
    if not as_json:
        outstanding = [status for status in planned_run_states(plan, runs_dir) if status.to_run]
        _print_plan_notes(console, plan, len(outstanding))
    done: list[tuple[PlannedRun, Outcome]] = []
    with RunView(console, plan.study.name, quiet=True) as view:
        for planned, outcome in run_missing(plan, runs_dir, lambda _: view, prepared.nodes):
            done.append((planned, outcome))
            if not as_json:
                _print_outcome(console, planned, outcome)
    if as_json:
        runs = [
            {"key": planned.key, "run": str(outcome.run.path), "state": outcome.state.value}
            for planned, outcome in done
        ]
        typer.echo(json.dumps({"runs": runs}, indent=2))
    if code := study_exit_code([outcome for _, outcome in done]):
        raise typer.Exit(code)


def _print_outcome(console: Console, planned: PlannedRun, outcome: Outcome) -> None:
    from saman.cli.output import short_number

    summary = outcome.run.summary()
    speed = summary.samples_per_second if summary else None
    settings = ", ".join(f"{key} {value}" for key, value in planned.settings.items())
    rate = f"{short_number(speed)} samples/s" if speed else outcome.message
    mark = "[green]✓[/]" if outcome.exit_code == 0 else "[red]✗[/]"
    console.print(f"{mark} {settings}, repeat {planned.repeat}: {rate}, {outcome.seconds:.0f} s")


def _print_plan_notes(console: Console, plan: StudyPlan, wanted: int) -> None:
    console.print(f"{plan.study.name}: {wanted} of {len(plan.runs)} runs to do, order seed {plan.study.order_seed}")
    for note in plan.notes:
        console.print("  " + note, style="dim")


def _submit(prepared: PreparedStudy, site: Cluster, as_json: bool, dependency: Dependency) -> None:
    from saman.api.study_plans import submit_study

    said: set[str] = set()

    def tell(state: NoRoom) -> None:
        if (sentence := state.sentence()) not in said:
            said.add(sentence)
            typer.echo(sentence, err=True)

    submitted = submit_study(prepared, site, tell, dependency)
    submissions = submitted.submissions
    if as_json:
        runs = [{"run": str(submission.run.path), "job": submission.job} for submission in submissions]
        typer.echo(json.dumps({"runs": runs}, indent=2))
        return
    for note in submitted.notes:
        typer.echo(note)
    for submission in submissions:
        typer.echo(f"job {submission.job}: {submission.run.path}")
    typer.echo(f"{len(submissions)} runs submitted; saman status shows their state, saman report their results")
