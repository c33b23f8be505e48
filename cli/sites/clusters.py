"""``saman clusters``: cluster files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Cluster files: list, show, check, create.")


@app.command("list")
def list_command() -> None:
    """List the shipped cluster files, your own, and your default cluster.

    Example:

        saman clusters list
    """
    from saman.configs.errors import UserError
    from saman.configs.loading.clusters import user_clusters
    from saman.configs.loading.files import shipped
    from saman.slurm.site.default_cluster import choose_cluster

    with contextlib.suppress(UserError):  # no default
        typer.echo(choose_cluster(None).note)
    for name in shipped("clusters"):
        typer.echo(f"{name}  (shipped)")
    for file in sorted(user_clusters().glob("*.yaml")):
        typer.echo(f"{file.stem}  {file}")


@app.command("show")
def show_command(cluster: Annotated[str, typer.Argument(help="A shipped name, your own name, or a path.")]) -> None:
    """Print a cluster file with its comments; shipped files are annotated examples.

    Example:

        saman clusters show minicluster
    """
    from saman.configs.loading.clusters import cluster_file

    typer.echo(cluster_file(cluster).read_text(encoding="utf-8"), nl=False)


@app.command("check")
def check_command(cluster: Annotated[str, typer.Argument(help="A shipped name, your own name, or a path.")]) -> None:
    """Check a cluster file and report the key of every problem.

    Example:

        saman clusters check mysite.yaml
    """
    from saman.configs.errors import EnvironmentLack
    from saman.configs.loading.clusters import load_cluster
    from saman.configs.site.sbatch_options import doubtful_options
    from saman.slurm.site.sbatch_check import check_extra_options

    found = load_cluster(cluster)
    unchecked = None
    try:
        check_extra_options(found.sbatch, cluster)
    except EnvironmentLack as lack:
        unchecked = f"not checked: the options under sbatch: {lack.problem}"
    typer.echo(f"{found.name}: partitions {', '.join(partition.name for partition in found.partitions)}")
    if unchecked is not None:
        typer.echo(unchecked)
        for sentence in doubtful_options(found.sbatch):
            typer.echo(sentence)


@app.command("init")
def init_command(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: your folder of cluster files.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Query Slurm on this login node and write a cluster file for the site.

    Examples:

        saman clusters init

        saman clusters init -o mysite.yaml
    """
    from saman.configs.errors import UserError
    from saman.configs.loading.clusters import load_cluster, user_clusters
    from saman.runs.files.whole import write_whole
    from saman.slurm.site.discovery import ask_site, cluster_yaml

    site = ask_site()
    file = output or user_clusters() / f"{site.name}.yaml"
    if file.exists() and not force:
        raise UserError("the file exists", where=str(file), remedy="--force overwrites it, -o names another file")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, cluster_yaml(site))
    load_cluster(str(file))
    typer.echo(f"{file}: partitions {', '.join(partition.name for partition in site.partitions)}")
    for sentence in site.unknown:
        typer.echo(f"check by hand: {sentence}")
