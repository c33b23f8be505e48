"""``saman study``: every run of a scaling study, here one after another, or on a cluster as job arrays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from saman.configs.schemas.cluster import Cluster
    from saman.scaling.study.execution import PlannedRunStatus
    from saman.scaling.study.plan import PlannedRun, StudyPlan


def study(
    name: Annotated[str, typer.Argument(metavar="STUDY", help="A shipped study, or the path of a YAML file.")],
    cluster: Annotated[
        str | None, typer.Option("--cluster", "-c", help="Submit there instead of running here.")
    ] = None,
    partition: Annotated[str | None, typer.Option("--partition", "-p", help="Default: the cheapest that fits.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the runs, their cost and what is done.")] = False,
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a scaling study: what is missing or failed, nothing that is done.

    Examples:

        saman study demo --dry-run

        saman study my-study.yaml --cluster mysite
    """
    from rich.console import Console

    from saman.configs.loading.studies import load_study
    from saman.scaling.study.plan import make_plan

    site = _cluster(cluster)
    loaded, file = load_study(name)
    plan = make_plan(loaded, file, _cores(site, partition))
    console = Console(stderr=as_json)
    if site is not None:
        _settle(plan, runs_dir)
    if dry_run:
        _show(console, plan, runs_dir, as_json)
    elif site is not None:
        _submit(plan, site, partition, runs_dir, as_json)
    else:
        _run(console, plan, runs_dir, as_json)


def _cluster(name: str | None) -> Cluster | None:
    if name is None:
        return None
    from saman.configs.loading.clusters import load_cluster

    return load_cluster(name)


def _cores(site: Cluster | None, partition: str | None) -> int:
    """Cores of the nodes on which all runs must fit: of the partition that is named, else of the smallest."""
    if site is None:
        from saman.launcher.node.machine import this_node

        return this_node().cores
    named = [one for one in site.partitions if partition in (None, one.name)]
    return min(one.cores_per_node for one in named or site.partitions)


def _settle(plan: StudyPlan, runs_dir: Path) -> None:
    """Write ends that only Slurm knows of into the run folders, so that such runs are not waited for."""
    from saman.jobs.status import look
    from saman.runs.find import find_runs

    look([run for run in find_runs(runs_dir) if run.experiment_name == plan.study.name and not run.state.ended])


def _show(console: Console, plan: StudyPlan, runs_dir: Path, as_json: bool) -> None:
    from saman.scaling.study.execution import check_limit, cost, standings

    found = standings(plan, runs_dir)
    costs = cost(found)
    if as_json:
        runs = [{**one.planned.to_json(), "stands": one.stands, "run": one.run and str(one.run.path)} for one in found]
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

    axes = list(plan.study.axes)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("", *axes, "repeat", "nodes", "node-hours", "run"):
        table.add_column(heading, justify="right" if heading in ("", "repeat", "nodes", "node-hours") else "left")
    for number, one in enumerate(found, 1):
        planned = one.planned
        hours = f"{one.node_hours:.3g}" if one.stands == "done" else f"≤ {planned.node_hours_bound:.3g}"
        values = [str(planned.settings[axis]) for axis in axes]
        stands = {"done": "green", "failed": "red", "waiting": "yellow"}.get(one.stands, "dim")
        said = f"[{stands}]{one.stands}[/] {one.run.id if one.run else ''}"
        table.add_row(str(number), *values, str(planned.repeat), str(planned.nodes), hours, said)
    console.print(table)
    for note in plan.notes:
        console.print(note, style="dim")
    for settings, reason in plan.impossible:
        told = ", ".join(f"{key} {value}" for key, value in settings.items())
        console.print(f"left out: {told}: {reason}", style="dim")


def _run(console: Console, plan: StudyPlan, runs_dir: Path, as_json: bool) -> None:
    from saman.cli.runs.view import RunView, number
    from saman.configs.errors import ExitCode
    from saman.scaling.study.execution import run_missing, standings

    if not as_json:
        _print_plan_notes(console, plan, len([one for one in standings(plan, runs_dir) if one.wanted]))
    done: list[dict[str, Any]] = []
    worst = 0
    view = RunView(console, plan.study.name, quiet=True)
    with view:
        for planned, outcome in run_missing(plan, runs_dir, lambda _: view):
            summary = outcome.run.summary()
            speed = summary.samples_per_second if summary else None
            told = ", ".join(f"{key} {value}" for key, value in planned.settings.items())
            done.append({"key": planned.key, "run": str(outcome.run.path), "state": outcome.state.value})
            if not as_json:
                rate = f"{number(speed)} samples/s" if speed else outcome.message
                mark = "[green]✓[/]" if outcome.exit_code == 0 else "[red]✗[/]"
                console.print(f"{mark} {told}, repeat {planned.repeat}: {rate}, {outcome.seconds:.0f} s")
            if outcome.exit_code:
                worst = int(outcome.exit_code) if outcome.exit_code == ExitCode.INTERRUPTED else worst or 1
    if as_json:
        typer.echo(json.dumps({"runs": done}, indent=2))
    if worst:
        raise typer.Exit(worst)


def _print_plan_notes(console: Console, plan: StudyPlan, wanted: int) -> None:
    console.print(f"{plan.study.name}: {wanted} of {len(plan.runs)} runs to do, order seed {plan.study.order_seed}")
    for note in plan.notes:
        console.print("  " + note, style="dim")


def _submit(plan: StudyPlan, site: Cluster, partition: str | None, runs_dir: Path, as_json: bool) -> None:
    from saman.scaling.study.execution import submit_missing
    from saman.slurm.submission import planning
    from saman.slurm.submission import submit as slurm
    from saman.slurm.submission.code_copy import code_copy

    submitted: list[Any] = []
    said: list[str] = []

    def send(wanted: Sequence[PlannedRun]) -> None:
        planned = [planning.plan(one.loaded.experiment, site, runs_dir, partition) for one in wanted]
        for name in {one.choice.partition.name for one in planned}:
            said.extend(planning.check_limits(*[one for one in planned if one.choice.partition.name == name]))
        code_path = wanted[0].loaded.code_path
        copy = code_copy(wanted[0].loaded.experiment, code_path, runs_dir)
        make = lambda one: slurm.create_run(one, code_path, copy)  # noqa: E731
        submitted.extend(slurm.submit_many(planned, make, plan.study.concurrency))

    submit_missing(plan, runs_dir, send)
    if as_json:
        runs = [{"run": str(one.run.path), "job": one.job} for one in submitted]
        typer.echo(json.dumps({"runs": runs}, indent=2))
        return
    for sentence in said:
        typer.echo(sentence)
    for one in submitted:
        typer.echo(f"job {one.job}: {one.run.path}")
    typer.echo(f"{len(submitted)} runs submitted; saman status shows how they are, saman report what they say")
