"""``saman clusters``: the files that describe sites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Cluster files: list, show, check, write a first one.")


@app.command("list")
def list_clusters() -> None:
    """List the cluster files that are shipped and those in your own folder."""
    from saman.configs.loading.clusters import user_clusters
    from saman.configs.loading.files import shipped

    for name in shipped("clusters"):
        typer.echo(f"{name}  (shipped)")
    for file in sorted(user_clusters().glob("*.yaml")):
        typer.echo(f"{file.stem}  {file}")


@app.command()
def show(cluster: Annotated[str, typer.Argument(help="A name or a path.")]) -> None:
    """Print a cluster file with its comments; shipped ones are annotated examples."""
    from saman.configs.loading.clusters import cluster_file

    typer.echo(cluster_file(cluster).read_text(encoding="utf-8"), nl=False)


@app.command()
def check(cluster: Annotated[str, typer.Argument(help="A name or a path.")]) -> None:
    """Check a cluster file; every mistake is named with its key."""
    from saman.configs.loading.clusters import load_cluster

    found = load_cluster(cluster)
    typer.echo(f"{found.name}: partitions {', '.join(partition.name for partition in found.partitions)}")


@app.command()
def init(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Default: your folder of cluster files.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Write a first cluster file from what Slurm says on this login node."""
    from saman.configs.errors import UserError
    from saman.configs.files import write_whole
    from saman.configs.loading.clusters import load_cluster, user_clusters
    from saman.slurm.site.discovery import ask_site, cluster_yaml

    site = ask_site()
    file = output or user_clusters() / f"{site.name}.yaml"
    if file.exists() and not force:
        raise UserError("is there already", where=str(file), remedy="--force writes over it; -o names another")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_whole(file, cluster_yaml(site))
    load_cluster(str(file))
    typer.echo(f"{file}: partitions {', '.join(str(one['name']) for one in site.partitions)}")
    for sentence in site.unknown:
        typer.echo(f"look at: {sentence}")
