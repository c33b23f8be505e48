"""``saman preflight``: a short job that measures every node before a long run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import RUNS, ClusterOrHere, Json, Partition, RunsDir

if TYPE_CHECKING:
    from saman.jobs.preflight import PreflightReport


def preflight_command(
    cluster: ClusterOrHere = None,
    nodes: Annotated[int, typer.Option("--nodes", "-N", help="Number of nodes.")] = 1,
    ranks_per_node: Annotated[int, typer.Option("--ranks-per-node", help="Ranks on each node.")] = 2,
    partition: Partition = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=1, help="Cancel the job if it has no result after this many seconds.")
    ] = 3600.0,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Measure start-up, clocks, allreduce bandwidth and compute speed of every node; name the outliers.

    Examples:

        saman preflight

        saman preflight --cluster mysite --nodes 8
    """
    from saman.configs.errors import ExitCode
    from saman.jobs.preflight import preflight_cluster, preflight_here
    from saman.slurm.site.access import require_here
    from saman.slurm.site.default_cluster import choose_cluster

    if cluster is None:
        report = preflight_here(nodes * ranks_per_node, runs_dir)
    else:
        site = require_here(choose_cluster(cluster).load(), "saman preflight --cluster")
        report = preflight_cluster(
            site, nodes, ranks_per_node, runs_dir, partition=partition,
            timeout_seconds=timeout, started=lambda run: typer.echo(f"preflight: {run.path}", err=True),
        )  # fmt: skip
    if as_json:
        facts = {"run": str(report.run.path), "state": report.run.state.value, "nodes": report.nodes,
                 "timed_out": report.gave_up_after is not None,
                 "odd": [vars(outlier) for outlier in report.outliers], "option": report.option}  # fmt: skip
        typer.echo(json.dumps(facts, indent=2))
    elif report.nodes:
        _show(report)
    if report.gave_up_after is not None:
        typer.echo(f"no result within {report.gave_up_after:g} s (--timeout); the job is cancelled", err=True)
        raise typer.Exit(ExitCode.RUN_FAILED)
    if not report.sound:
        typer.echo(f"the check itself failed: saman status {report.run.id}", err=True)
        raise typer.Exit(ExitCode.RUN_FAILED)


def _show(report: PreflightReport) -> None:
    from rich.console import Console
    from rich.table import Table

    from saman.slurm.preflight import FEWEST, MEASURES

    grid = Table(box=None, pad_edge=False)
    for heading in ("node", *(measure.heading for measure in MEASURES.values())):
        grid.add_column(heading, justify="left" if heading == "node" else "right")
    for node, values in report.nodes.items():
        grid.add_row(node, *(f"{values[name]:.4g}" if name in values else "" for name in MEASURES))
    Console().print(grid)
    for outlier in report.outliers:
        typer.echo(outlier.sentence())
    if report.outliers:
        typer.echo(f"leave them out: saman submit … {report.option}")
    elif len(report.nodes) < FEWEST:
        typer.echo(f"no outlier can be named with fewer than {FEWEST} nodes")
    else:
        typer.echo("no outliers")
