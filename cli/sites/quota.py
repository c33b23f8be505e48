"""``saman quota``: limits, their use, and the needs of runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import RUNS, ClusterName, Json, Partition, RunsDir, TotalRanks, Words

if TYPE_CHECKING:
    from saman.configs.schemas.cluster import Cluster
    from saman.configs.schemas.experiment import Experiment
    from saman.jobs.quota import QuotaReport
    from saman.slurm.site.user_limits import UserLimits


def quota_command(
    cluster: ClusterName = None,
    arguments: Words = None,
    ranks: TotalRanks = None,
    times: Annotated[int, typer.Option("--times", help="Number of runs of the experiment.")] = 1,
    partition: Partition = None,
    study: Annotated[str | None, typer.Option("--study", help="Check all runs of a study instead.")] = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Warn above this share of a limit.")] = 0.8,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Show the limits of your account and QOS, their current use, and what an experiment or a study would need.

    Exit status 2 if a limit forbids the runs.

    Examples:

        saman quota --cluster mysite

        saman quota my.yaml --cluster mysite -np 64 --times 5

        saman quota --cluster mysite --study my-study.yaml
    """
    from saman.configs.errors import ExitCode
    from saman.jobs.quota import read_quota
    from saman.slurm.site.access import require_here
    from saman.slurm.site.default_cluster import choose_cluster

    chosen = choose_cluster(cluster)
    site = require_here(chosen.load(), "saman quota")
    if chosen.note:
        typer.echo(chosen.note, err=True)
    report = read_quota(site, _experiments(site, arguments or [], ranks, study) * times, partition, threshold)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        _show_limits(report.limits)
        if report.needs.runs:
            _show_needs(report)
    if report.forbidden:
        raise typer.Exit(ExitCode.BAD_REQUEST)


def _experiments(site: Cluster, arguments: list[str], ranks: int | None, study: str | None) -> list[Experiment]:
    from saman.configs.loading.experiments import load_experiment

    if study is not None:
        from saman.configs.loading.studies import load_study
        from saman.scaling.study.plan import cores_of_nodes, make_plan

        plan = make_plan(*load_study(study), cores_of_nodes(site))
        return [planned.loaded.experiment for planned in plan.runs]
    return [load_experiment(arguments[0], arguments[1:], ranks).experiment] if arguments else []


def _show_needs(report: QuotaReport) -> None:
    needs = report.needs
    runs = "1 run needs" if needs.runs == 1 else f"{needs.runs} runs need"
    typer.echo(
        f"{runs} {needs.node_hours:.4g} node-hours, {needs.gpu_hours:.4g} GPU-hours, "
        f"at most {needs.cost:.4g} in the unit of the cluster file"
    )
    for check in report.checks:
        typer.echo(f"{check.verdict.value}: {check.sentence()}")


def _show_limits(standing: UserLimits) -> None:
    from rich.console import Console
    from rich.table import Table

    from saman.slurm.submission.limit_check import format_amount

    typer.echo(f"account {standing.account or '(none)'}, QOS {', '.join(standing.qos) or '(none)'}")
    if not standing.known:
        typer.echo("Slurm shows no limits: accounting is off, or hidden from users")
        return
    if not standing.limits:
        typer.echo("no limits are set")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("limit of", "name", "over", "at most", "in use"):
        table.add_column(heading)
    for limit in standing.limits:
        used = "" if limit.used is None else format_amount(limit.used, limit.resource)
        table.add_row(limit.owner, limit.name, limit.scope.value, format_amount(limit.amount, limit.resource), used)
    Console(soft_wrap=True).print(table)
