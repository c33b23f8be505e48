"""``saman infer``: a model's predictions for files of any size, on many ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from saman.cli.options import MODELS, RUNS, ClusterOrHere, Json, ModelsDir, RunsDir

if TYPE_CHECKING:
    from saman.jobs.inference import InferenceRequest, InferenceResult


def infer_command(
    model: Annotated[
        str, typer.Argument(help="NAME, NAME:VERSION or NAME:LABEL; NAME alone means stable, else the newest.")
    ],
    inputs: Annotated[
        list[Path],
        typer.Option("--input", "-i", help=".npy, .npz, .parquet, IDX, or a folder of images."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    ranks: Annotated[int, typer.Option("-np", metavar="N", help="Number of ranks, each with one thread.")] = 1,
    batch: Annotated[int, typer.Option("--batch", help="Rows per call of the model.")] = 256,
    cluster: ClusterOrHere = None,
    nodes: Annotated[int, typer.Option("--nodes", "-N", help="With --cluster: number of nodes.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Discard the results of an interrupted job.")] = False,
    runs_dir: RunsDir = RUNS,
    models_dir: ModelsDir = MODELS,
    as_json: Json = False,
) -> None:
    """Predict every row of the inputs, in order. If a job was interrupted, repeat the same command to continue it.

    The output has the columns row, source, position, prediction, outputs and error; a bad row keeps its place and has
    an error. The result is the same for any number of ranks.

    Examples:

        saman infer digits -i images.npy -o predictions.parquet

        saman infer digits:stable -i images/ -o predictions.parquet -np 4
    """
    from saman.jobs.inference import prepare, run

    request = prepare(models_dir, model, inputs, output, batch=batch, overwrite=overwrite, restart=restart)
    if cluster is not None:
        _submit(request, cluster, ranks, nodes, runs_dir, as_json)
        return
    with _bar(as_json) as progress:
        result = run(request, runs_dir, ranks, progress=progress)
    _show(request, result, as_json)


def _show(request: InferenceRequest, result: InferenceResult, as_json: bool) -> None:
    from dataclasses import asdict

    facts = {"model": request.model, "version": request.version, "output": str(result.output)}
    if as_json:
        bad = [asdict(row) for row in result.first_bad]
        typer.echo(json.dumps({**facts, "rows": result.rows, "bad_rows": result.bad, "first_bad": bad}, indent=2))
        return
    typer.echo(f"{result.rows} rows predicted by {request.model} version {request.version}: {result.output}")
    if result.bad:
        typer.echo(f"{result.bad} of them are bad:")
        for bad_row in result.first_bad:
            typer.echo(f"  row {bad_row.row} ({bad_row.source}, position {bad_row.position}): {bad_row.error}")


def _bar(quiet: bool) -> Any:
    """Show a progress bar on standard error; the context yields the function that advances it."""
    import sys
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from saman.cli.terminal import own_stream

    @contextmanager
    def bar() -> Any:
        columns = (TextColumn("pieces"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(file=own_stream(sys.stderr)), disable=quiet, transient=True) as shown:
            task = shown.add_task("pieces", total=None)
            yield lambda done, total: shown.update(task, completed=done, total=total)

    return bar()


def _submit(request: InferenceRequest, cluster: str, ranks: int, nodes: int, runs_dir: Path, as_json: bool) -> None:
    from saman.jobs.inference import submit
    from saman.slurm.site.access import require_here
    from saman.slurm.site.default_cluster import choose_cluster

    site = require_here(choose_cluster(cluster).load(), "saman infer --cluster")
    done = submit(request, site, runs_dir, ranks, nodes)
    if as_json:
        typer.echo(json.dumps({"job": done.job, "run": str(done.run.path), "output": str(request.output)}, indent=2))
        return
    typer.echo(f"job {done.job}: {done.run.path}; the last rank to finish writes {request.output}")
