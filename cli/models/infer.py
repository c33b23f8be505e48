"""``saman infer``: a model's answers to files of any size, on many ranks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from saman.jobs.inference import InferenceRequest


def infer(
    model: Annotated[
        str, typer.Argument(help="NAME, NAME:VERSION or NAME:LABEL; NAME alone is stable, else the newest.")
    ],
    inputs: Annotated[list[Path], typer.Option("--input", "-i", help=".npy, .npz, .parquet, IDX, a folder of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="A Parquet file.")],
    ranks: Annotated[int, typer.Option("-np", metavar="N", help="Number of ranks, of one thread each.")] = 1,
    batch: Annotated[int, typer.Option("--batch", help="Rows given to the model at once.")] = 256,
    cluster: Annotated[str | None, typer.Option("--cluster", "-c", help="Submit it to Slurm instead.")] = None,
    nodes: Annotated[int, typer.Option("--nodes", "-N", help="With --cluster: over how many nodes.")] = 1,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the output.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw away what an interrupted job has done.")] = False,
    runs_dir: Annotated[Path, typer.Option("--runs-dir", help="Folder of the runs.")] = Path("runs"),
    models_dir: Annotated[Path, typer.Option("--models-dir", help="Folder of the models.")] = Path("models"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Answer every row of the inputs, in order. The same command goes on with an interrupted job.

    The output has the columns row, source, position, prediction, outputs and error; a bad row keeps its place and has
    an error. The result is the same for any number of ranks.
    """
    from saman.jobs.inference import prepare, run

    request = prepare(models_dir, model, inputs, output, batch=batch, overwrite=overwrite, restart=restart)
    if cluster is not None:
        _submit(request, cluster, ranks, nodes, runs_dir, as_json)
        return
    with _bar(as_json) as progress:
        result = run(request, runs_dir, ranks, progress=progress)
    facts = {"model": request.model, "version": request.version, "output": str(result.output)}
    if as_json:
        bad = [dict(zip(("row", "source", "position", "error"), one, strict=True)) for one in result.first_bad]
        typer.echo(json.dumps({**facts, "rows": result.rows, "bad_rows": result.bad, "first_bad": bad}, indent=2))
        return
    typer.echo(f"{result.rows} rows answered by {request.model} version {request.version}: {result.output}")
    if result.bad:
        typer.echo(f"{result.bad} of them are bad:")
        for row, source, position, why in result.first_bad:
            typer.echo(f"  row {row} ({source}, position {position}): {why}")


def _bar(quiet: bool) -> Any:
    """A progress bar on standard error, as a context that gives the function to call."""
    from contextlib import contextmanager

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    @contextmanager
    def bar() -> Any:
        columns = (TextColumn("pieces"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), disable=quiet, transient=True) as shown:
            task = shown.add_task("pieces", total=None)
            yield lambda done, total: shown.update(task, completed=done, total=total)

    return bar()


def _submit(request: InferenceRequest, cluster: str, ranks: int, nodes: int, runs_dir: Path, as_json: bool) -> None:
    from saman.configs.errors import UserError
    from saman.configs.loading.clusters import load_cluster
    from saman.jobs.inference import script
    from saman.slurm.submission import planning
    from saman.slurm.submission import submit as slurm

    if ranks % nodes:
        raise UserError(f"{ranks} ranks cannot be spread evenly over {nodes} nodes", where="-np")
    spec = script(request, {"nodes": nodes, "ranks_per_node": ranks // nodes})
    plan = planning.plan(spec, load_cluster(cluster, ()), runs_dir, None)
    done = slurm.submit(plan)
    if as_json:
        typer.echo(json.dumps({"job": done.job, "run": str(done.run.path), "output": str(request.output)}, indent=2))
        return
    typer.echo(f"job {done.job}: {done.run.path}; the last rank to finish writes {request.output}")
