"""``saman quota``: limits, what is used of them, and what a run would need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from saman.configs.schemas.cluster import Cluster
    from saman.configs.schemas.experiment import Experiment
    from saman.slurm.site.user_limits import UserLimits
    from saman.slurm.submission.limit_check import LimitCheck
    from saman.slurm.submission.resource_request import PartitionChoice


def quota(
    cluster: Annotated[str, typer.Option("--cluster", "-c", help="A cluster file: a shipped name, yours, or a path.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPERIMENT] [KEY=VALUE]...", help="What would be submitted.")
    ] = None,
    ranks: Annotated[int | None, typer.Option("-np", "--np", help="Ranks in all, spread over the nodes.")] = None,
    times: Annotated[int, typer.Option("--times", help="How many such runs.")] = 1,
    partition: Annotated[str | None, typer.Option("--partition", "-p", help="Default: the cheapest that fits.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="All runs of a study instead.")] = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Warn above this share of a limit.")] = 0.8,
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the limits of your account and QOS, what is used, and what an experiment would need."""
    from saman.configs.loading.clusters import load_cluster
    from saman.slurm.site.user_limits import read_user_limits
    from saman.slurm.submission.limit_check import compare_with_limits
    from saman.slurm.submission.resource_request import choose_partition

    site = load_cluster(cluster)
    choices = [choose_partition(site, spec, partition) for spec in _specs(site, arguments or [], ranks, study)] * times
    where = choices[0].partition if choices else site.partition(partition) if partition else None
    standing = read_user_limits(site.account, (where and where.qos) or site.qos, where.name if where else None)
    findings = []
    if where and choices:
        requests = [choice.request for choice in choices]
        findings = compare_with_limits(standing.limits, requests, where.cores_per_node, where.gpu_type, threshold)
    needs = _needs(choices)
    if as_json:
        typer.echo(json.dumps(_facts(standing, needs, findings), indent=2))
        return
    _show(standing)
    if choices:
        runs = "1 run needs" if len(choices) == 1 else f"{len(choices)} runs need"
        typer.echo(
            f"{runs} {needs['node_hours']:.4g} node-hours, {needs['gpu_hours']:.4g} GPU-hours, "
            f"at most {needs['cost']:.4g} in the unit of the cluster file"
        )
        for finding in findings:
            typer.echo(f"{finding.verdict.value}: {finding.sentence()}")


def _specs(site: Cluster, arguments: list[str], ranks: int | None, study: str | None) -> list[Experiment]:
    """The runs that are asked about."""
    from saman.configs.loading.experiments import load_experiment

    if study is not None:
        from saman.configs.loading.studies import load_study
        from saman.scaling.study.plan import make_plan

        cores = min(partition.cores_per_node for partition in site.partitions)
        return [one.loaded.experiment for one in make_plan(*load_study(study), cores).runs]
    return [load_experiment(arguments[0], arguments[1:], ranks).experiment] if arguments else []


def _needs(choices: list[PartitionChoice]) -> dict[str, float]:
    return {
        "runs": len(choices),
        "node_hours": sum(choice.request.node_hours for choice in choices),
        "gpu_hours": sum(choice.request.gpu_hours for choice in choices),
        "cost": sum(choice.cost for choice in choices),
    }


def _facts(standing: UserLimits, needs: dict[str, float], findings: list[LimitCheck]) -> dict[str, object]:
    return {
        "account": standing.account,
        "qos": list(standing.qos),
        "known": standing.known,
        "limits": [limit.to_json() for limit in standing.limits],
        "needs": needs,
        "findings": [
            {"verdict": one.verdict.value, "need": one.need, "limit": one.limit.to_json(), "sentence": one.sentence()}
            for one in findings
        ],
    }


def _show(standing: UserLimits) -> None:
    from rich.console import Console
    from rich.table import Table

    from saman.slurm.submission.limit_check import format_amount

    typer.echo(f"account {standing.account or '(none)'}, QOS {', '.join(standing.qos) or '(none)'}")
    if not standing.known:
        typer.echo("Slurm says nothing of limits: accounting is off, or closed to users")
        return
    if not standing.limits:
        typer.echo("no limit is set on you")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("limit of", "name", "over", "at most", "in use"):
        table.add_column(heading)
    for limit in standing.limits:
        used = "" if limit.used is None else format_amount(limit.used, limit.resource)
        table.add_row(limit.owner, limit.name, limit.scope.value, format_amount(limit.amount, limit.resource), used)
    Console(soft_wrap=True).print(table)
