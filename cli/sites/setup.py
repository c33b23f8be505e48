"""``saman setup``: builds the training environment; the same code that ``make`` starts before anything is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def setup(
    venv: Annotated[
        Path | None, typer.Option("--venv", help="Where (default: .venv, or .venv-compat with --compat).")
    ] = None,
    python: Annotated[str | None, typer.Option("--python", help="The Python to use (default: one that fits).")] = None,
    tensorflow: Annotated[
        str | None, typer.Option("--tensorflow", help="Which tested set: 2.21 (default) or 2.15.")
    ] = None,
    compat: Annotated[bool, typer.Option("--compat", help="The same as --tensorflow 2.15.")] = False,
    mpi: Annotated[
        str | None,
        typer.Option("--mpi", help="wheel (needs no root) or system (the MPI on PATH); default: as before, or wheel."),
    ] = None,
    gpu: Annotated[
        bool | None,
        typer.Option("--gpu/--no-gpu", help="Horovod with NCCL, as upstream documents it; not tested by this project."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print each step and do nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build the environment that trains: TensorFlow, Horovod from its source, MPI from a wheel. Needs no root."""
    from saman.launcher.setup.command import make_request, perform

    request = make_request(venv=venv, python=python, tensorflow=tensorflow, compat=compat, mpi=mpi, gpu=gpu)
    if not perform(request, dry_run=dry_run, as_json=as_json) and not (dry_run or as_json):
        typer.echo(f"nothing to do: {request.venv} is set up")
