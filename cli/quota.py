"""``saman quota``: limits, what is used of them, and what a run would need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from saman.slurm.quota import Finding, Standing
    from saman.slurm.request import Choice


def quota(
    cluster: Annotated[str, typer.Option("--cluster", "-c", help="A cluster file: a shipped name, yours, or a path.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[EXPERIMENT] [KEY=VALUE]...", help="What would be submitted.")
    ] = None,
    ranks: Annotated[int | None, typer.Option("-np", "--np", help="Ranks in all, spread over the nodes.")] = None,
    times: Annotated[int, typer.Option("--times", help="How many such runs.")] = 1,
    partition: Annotated[str | None, typer.Option("--partition", "-p", help="Default: the cheapest that fits.")] = None,
    threshold: Annotated[float, typer.Option("--threshold", help="Warn above this share of a limit.")] = 0.8,
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show the limits of your account and QOS, what is used, and what an experiment would need."""
    from saman.configs.cluster import load_cluster
    from saman.configs.loading import load_experiment
    from saman.slurm import quota as limits
    from saman.slurm.request import choose

    site = load_cluster(cluster)
    choice = (
        choose(site, load_experiment(arguments[0], arguments[1:], ranks).experiment, partition) if arguments else None
    )
    where = choice.partition if choice else site.partition(partition) if partition else None
    standing = limits.standing(site.account, (where and where.qos) or site.qos, where.name if where else None)
    findings = []
    if choice:
        one = choice.partition
        findings = limits.judge(standing.limits, [choice.request] * times, one.cores_per_node, one.gpu_type, threshold)
    if as_json:
        typer.echo(json.dumps(_facts(standing, choice, findings, times), indent=2))
        return
    _show(standing)
    if choice:
        needs = f"{times} × " if times > 1 else ""
        request = choice.request
        typer.echo(f"needs {needs}{request.node_hours:.4g} node-hours, {request.gpu_hours:.4g} GPU-hours, at most "
                   f"{choice.cost * times:.4g} in the unit of the cluster file, on {choice.partition.name}")  # fmt: skip
        for finding in findings:
            typer.echo(f"{finding.verdict.value}: {finding.sentence()}")


def _facts(standing: Standing, choice: Choice | None, findings: list[Finding], times: int) -> dict[str, object]:
    facts: dict[str, object] = {
        "account": standing.account,
        "qos": list(standing.qos),
        "known": standing.known,
        "limits": [limit.to_json() for limit in standing.limits],
    }
    if choice:
        facts["needs"] = {
            "node_hours": choice.request.node_hours * times,
            "gpu_hours": choice.request.gpu_hours * times,
            "cost": choice.cost * times,
            "partition": choice.partition.name,
        }
        facts["findings"] = [
            {"verdict": one.verdict.value, "need": one.need, "limit": one.limit.to_json(), "sentence": one.sentence()}
            for one in findings
        ]
    return facts


def _show(standing: Standing) -> None:
    from rich.console import Console
    from rich.table import Table

    from saman.slurm.quota import shown

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
        used = "" if limit.used is None else shown(limit.used, limit.resource)
        table.add_row(limit.owner, limit.name, limit.scope.value, shown(limit.amount, limit.resource), used)
    Console(soft_wrap=True).print(table)
