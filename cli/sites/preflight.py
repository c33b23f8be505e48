"""``saman preflight``: a short job that measures every node before a long run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saman.runs.folder import RunFolder
    from saman.slurm.preflight import NodeOutlier


def preflight(
    cluster: Annotated[
        str | None, typer.Option("--cluster", "-c", help="A cluster file; default: this machine.")
    ] = None,
    nodes: Annotated[int, typer.Option("--nodes", "-N", help="How many nodes.")] = 1,
    ranks_per_node: Annotated[int, typer.Option("--ranks-per-node", help="Ranks on each.")] = 2,
    partition: Annotated[str | None, typer.Option("--partition", "-p", help="Default: the cheapest that fits.")] = None,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds to wait for the job.")] = 3600.0,
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure start-up, clocks, allreduce bandwidth and computing on every node, and name those that stand out."""
    import tempfile

    from saman.slurm import preflight as measure

    runs_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".preflight-", dir=runs_dir.absolute()))
    run = _there(cluster, folder, nodes, ranks_per_node, partition, timeout, runs_dir) if cluster else _here(
        folder, nodes * ranks_per_node, runs_dir
    )  # fmt: skip
    table = measure.by_node(measure.read(folder))
    findings = measure.odd_ones(table)
    if as_json:
        facts = {"run": str(run.path), "state": run.state.value, "nodes": table,
                 "odd": [vars(one) for one in findings], "option": measure.option(findings)}  # fmt: skip
        typer.echo(json.dumps(facts, indent=2))
    else:
        _show(table, findings)
    if not table or run.state.value != "completed":
        typer.echo(f"the check itself failed: saman status {run.id}", err=True)
        raise typer.Exit(1)


def _there(
    cluster: str, folder: Path, nodes: int, ranks: int, partition: str | None, timeout: float, runs_dir: Path
) -> RunFolder:
    import time

    from saman.configs.loading.clusters import load_cluster
    from saman.jobs.status import look
    from saman.slurm.preflight import program
    from saman.slurm.submission import planning
    from saman.slurm.submission import submit as slurm
    from saman.slurm.submission.job_script import python_of

    site = load_cluster(cluster)
    python = site.container.python if site.container else python_of(site)
    plan = planning.plan(program(folder, python, nodes, ranks), site, runs_dir, partition)
    run = slurm.submit(plan).run
    typer.echo(f"preflight: {run.path}", err=True)
    deadline = time.monotonic() + timeout
    while not look([run])[0].over and time.monotonic() < deadline:
        time.sleep(1.0)
    return run


def _here(folder: Path, ranks: int, runs_dir: Path) -> RunFolder:
    from saman.launcher.local import run_script
    from saman.launcher.planning import Options
    from saman.slurm.preflight import program

    return run_script(program(folder, sys.executable, 1, ranks), Options(runs_dir=runs_dir)).run


def _show(table: Mapping[str, Mapping[str, float]], findings: list[NodeOutlier]) -> None:
    from rich.console import Console
    from rich.table import Table

    from saman.slurm.preflight import FEWEST, MEASURES, option

    shown: dict[str, Any] = {name: heading for name, (heading, _, _) in MEASURES.items()}
    grid = Table(box=None, pad_edge=False)
    for heading in ("node", *shown.values()):
        grid.add_column(heading, justify="left" if heading == "node" else "right")
    for node, values in table.items():
        grid.add_row(node, *(f"{values[name]:.4g}" if name in values else "" for name in shown))
    Console().print(grid)
    for one in findings:
        typer.echo(one.sentence())
    if findings:
        typer.echo(f"leave them out: saman submit … {option(findings)}")
    elif len(table) < FEWEST:
        typer.echo(f"fewer than {FEWEST} nodes: none can be called the odd one")
    else:
        typer.echo("no node stands out")
