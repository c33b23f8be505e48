"""``saman setup``: builds the training environment, by the code that ``make`` runs before anything is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def setup_command(
    venv: Annotated[
        Path | None, typer.Option("--venv", help="Folder; default: .venv, or .venv-compat with --compat.")
    ] = None,
    python: Annotated[
        str | None, typer.Option("--python", help="Python interpreter; default: a suitable interpreter on PATH.")
    ] = None,
    tensorflow: Annotated[
        str | None, typer.Option("--tensorflow", help="TensorFlow version: 2.21 (default) or 2.15.")
    ] = None,
    compat: Annotated[bool, typer.Option("--compat", help="Short for --tensorflow 2.15.")] = False,
    mpi: Annotated[
        str | None,
        typer.Option(
            "--mpi",
            help="wheel (needs no root) or system (the MPI on PATH). Default: as in the previous setup, else wheel.",
        ),
    ] = None,
    gpu: Annotated[
        bool | None,
        typer.Option("--gpu/--no-gpu", help="Build Horovod with NCCL; not tested by this project."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the steps; change nothing.")] = False,
    sbom: Annotated[
        bool, typer.Option("--sbom", help="Print the software bill of materials (CycloneDX); change nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build the training environment: TensorFlow, Horovod from source, MPI from a wheel. Needs no root.

    Examples:

        saman setup --dry-run

        saman setup --venv ~/saman-env --mpi system

        saman setup --sbom
    """
    from saman.launcher.setup.command import make_request, perform

    if sbom:
        typer.echo(_bill(tensorflow, compat))
        return
    request = make_request(venv=venv, python=python, tensorflow=tensorflow, compat=compat, mpi=mpi, gpu=gpu)
    if not perform(request, dry_run=dry_run, as_json=as_json) and not (dry_run or as_json):
        typer.echo(f"nothing to do: {request.venv} is set up")


def _bill(tensorflow: str | None, compat: bool) -> str:
    """Every package of a stack, and of the converters that are installed on first use."""
    import json

    from saman import __version__
    from saman.configs.errors import UserError, choices
    from saman.launcher.setup.bill_of_materials import bill, locked_components, node_components, stack_components
    from saman.launcher.setup.stacks import COMPAT, CURRENT, STACKS
    from saman.registry.evaluation.converter_packages import LITERT, ONNX, TFJS

    name = tensorflow or (COMPAT if compat else CURRENT).name
    if name not in STACKS:
        raise UserError(f"TensorFlow {name!r} is not tested", where="--tensorflow", remedy=choices(name, STACKS))
    converters = (LITERT, ONNX, TFJS)
    components = [*stack_components(STACKS[name])]
    components += [part for wanted in converters for part in locked_components(wanted.lock)]
    components += [part for wanted in converters for lock in wanted.node_files[1:] for part in node_components(lock)]
    return json.dumps(bill(f"saman on TensorFlow {name}", __version__, components), indent=2)
