"""``saman minicluster``: a real Slurm of several nodes on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="A real Slurm of several nodes on this machine, to try everything.")


@app.command()
def up(nodes: Annotated[int, typer.Argument(help="How many nodes.")] = 4) -> None:
    """Start the cluster, or what of it does not run."""
    from saman.slurm import minicluster

    typer.echo(minicluster.up(nodes))
    typer.echo('for this shell: eval "$(saman minicluster env)"')


@app.command()
def status() -> None:
    """Show daemons and nodes; exit code 1 unless all is healthy."""
    from saman.configs.errors import ExitCode
    from saman.slurm import minicluster

    healthy, table = minicluster.status()
    typer.echo(table)
    if not healthy:
        raise typer.Exit(ExitCode.RUN_FAILED)


@app.command()
def down() -> None:
    """Cancel every job and stop the cluster."""
    from saman.slurm import minicluster

    typer.echo(minicluster.down())


@app.command()
def env() -> None:
    """Print the lines that let a shell use the cluster."""
    from saman.slurm import minicluster

    typer.echo(minicluster.env_lines())


@app.command()
def crash(node: Annotated[str, typer.Argument(help="A node, such as node2.")]) -> None:
    """Let a node die at once, as if its power had failed."""
    from saman.slurm import minicluster

    minicluster.crash(node)


@app.command()
def start(node: Annotated[str, typer.Argument(help="A node that died.")]) -> None:
    """Bring a node back."""
    from saman.slurm import minicluster

    minicluster.start(node)
