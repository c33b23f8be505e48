"""``saman tune``: search for the best values of an experiment's keys, on this machine or as job arrays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import MODELS, RUNS, ClusterOrHere, Exclude, Json, ModelsDir, Partition, RunsDir
from saman.configs.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from saman.api.tunings import PreparedTuning
    from saman.tuning.study import TuningResult
    from saman.tuning.trials import Trial

_MOST_ROWS = 20


def tune_command(
    name: Annotated[str, typer.Argument(metavar="STUDY", help="A shipped study or a YAML file.")],
    cluster: ClusterOrHere = None,
    partition: Partition = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change the study or its experiment (repeatable)."),
    ] = None,
    exclude: Exclude = None,
    continued: Annotated[
        list[int] | None,
        typer.Option("--continue", metavar="TRIAL", help="Continue a pruned trial to its end (repeatable)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check the study and list its trials so far; start nothing.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option("--page", metavar="FOLDER", help="Also write the study's page with its figures.")
    ] = None,
    runs_dir: RunsDir = RUNS,
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Search for the best values of an experiment's keys; the same command goes on where it stopped.

    Examples:

        saman tune digits --dry-run

        saman tune my-tuning.yaml --cluster mysite --set trials=200

        saman tune my-tuning.yaml --continue 17

        saman tune my-tuning.yaml --dry-run --page reports/my-tuning
    """
    from rich.console import Console

    from saman.api.tunings import prepare_tuning
    from saman.tuning.study import read_study, run_study

    def say(text: str) -> None:
        typer.echo(text, err=as_json)

    prepared = prepare_tuning(
        name, runs_dir, models_dir, cluster, partition, tuple(settings or ()), tuple(exclude or ()), say
    )
    if prepared.note:
        typer.echo(prepared.note, err=True)
    if dry_run:
        result = read_study(prepared.plan, prepared.place, prepared.runs_dir)
        _show_plan(prepared, as_json)
    else:
        result = run_study(
            prepared.plan, prepared.place, prepared.runs_dir, prepared.models_dir, tuple(continued or ()), say
        )
    if page is not None:
        from saman.tuning.report.page import write_page

        say(f"page: {write_page(result, page)}")
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=2))
    else:
        show_result(Console(), result)
    if not dry_run and (code := exit_code(result)):
        raise typer.Exit(code)


def exit_code(result: TuningResult) -> ExitCode:
    """The exit status of a study: failed if no trial completed, or if the best model should be published and is not."""
    if result.best is None:
        return ExitCode.RUN_FAILED
    missed = result.confirmed is not None and result.confirmed.published.version is None
    return ExitCode.RUN_FAILED if missed else ExitCode.DONE


def _show_plan(prepared: PreparedTuning, as_json: bool) -> None:
    """Check the first trial, which the schema alone cannot, and say what the study does."""
    study = prepared.plan.study
    bound = prepared.plan.trial(0, {}).node_hours_bound
    if as_json:
        return
    goal = ", ".join(f"{objective.goal} {objective.metric}" for objective in study.objectives)
    most = "any number of" if study.most_trials is None else str(study.most_trials)
    typer.echo(f"{study.name}: {goal}; {most} trials, {study.concurrency} at a time, {study.sampler.name} sampler")
    budget = "" if study.node_hours is None else f", at most {study.node_hours:g} in all"
    typer.echo(f"pruner {study.pruner.name}; at most {bound:.3g} node-hours per start{budget}")


def show_result(console: Console, result: TuningResult) -> None:
    """Print the best trials, the Pareto front of several objectives, and the outcomes."""
    from rich.table import Table

    from saman.tuning.report.page import best_first

    study = result.plan.study
    if not result.trials:
        console.print("no trials yet")
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    keys = list(study.space)
    for heading in ("trial", *keys, *(objective.metric for objective in study.objectives), "outcome", "run"):
        table.add_column(heading)
    shown = best_first(result)[:_MOST_ROWS]
    for trial in shown:
        values = [f"{value:.4g}" for value in trial.values] if trial.values else ["–"] * len(study.objectives)
        cells = [_cell(trial.settings.get(key)) for key in keys]
        table.add_row(str(trial.number), *cells, *values, _outcome(trial), trial.run or "")
    console.print(table)
    if len(result.trials) > len(shown):
        console.print(f"and {len(result.trials) - len(shown)} more; --json lists all", style="dim")
    if result.front:
        console.print(f"Pareto front: {', '.join(f'trial {trial.number}' for trial in result.front)}")
    counts = ", ".join(f"{count} {outcome}" for outcome, count in result.to_json()["outcomes"].items())
    console.print(f"{counts}; {result.node_hours:.3g} node-hours")
    _show_confirmed(console, result)


def _show_confirmed(console: Console, result: TuningResult) -> None:
    from saman.tuning.confirmation import mean_interval

    if result.confirmed is None:
        return
    values = [each.value for each in result.confirmed.seeds if each.value is not None]
    low, high = mean_interval(values)
    metric = result.plan.study.objectives[0].metric
    if values:
        interval = "" if low is None else f" (95 % interval of the mean {low:.4g} to {high:.4g})"
        console.print(f"{len(values)} seeds: mean {metric} {sum(values) / len(values):.4g}{interval}")
    published = result.confirmed.published
    if published.version is None:
        console.print(f"not published: {published.reason}")
    else:
        where = "" if published.path is None else f": {published.path}"
        console.print(f"published as {published.model} version {published.version}{where}")


def _outcome(trial: Trial) -> str:
    at = f" at epoch {trial.pruned_at}" if trial.pruned_at is not None else ""
    again = f", started {trial.retries + 1} times" if trial.retries else ""
    return f"{trial.outcome}{at}{again}"


def _cell(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value)
