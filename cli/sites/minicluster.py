"""``saman minicluster``: a real Slurm cluster of several nodes on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="A real Slurm cluster of several nodes on this machine, for trials.")


@app.command("up")
def up_command(nodes: Annotated[int, typer.Argument(help="Number of nodes.")] = 4) -> None:
    """Start the cluster, or the parts of it that are down.

    Example:

        saman minicluster up 4
    """
    from saman.slurm import minicluster

    typer.echo(minicluster.up(nodes))
    typer.echo('for this shell: eval "$(saman minicluster env)"')


@app.command("status")
def status_command() -> None:
    """Show daemons and nodes; exit status 1 unless all are healthy.

    Example:

        saman minicluster status
    """
    from saman.configs.errors import ExitCode
    from saman.slurm import minicluster

    healthy, table = minicluster.status()
    typer.echo(table)
    if not healthy:
        raise typer.Exit(ExitCode.RUN_FAILED)


@app.command("down")
def down_command() -> None:
    """Cancel every job and stop the cluster.

    Example:

        saman minicluster down
    """
    from saman.slurm import minicluster

    typer.echo(minicluster.down())


@app.command("env")
def env_command() -> None:
    """Print the environment of the cluster as shell commands.

    Example:

        eval "$(saman minicluster env)"
    """
    from saman.slurm import minicluster

    typer.echo(minicluster.env_lines())


@app.command("crash")
def crash_command(node: Annotated[str, typer.Argument(help="A node, such as node2.")]) -> None:
    """Crash a node, as a power failure would.

    Example:

        saman minicluster crash node2
    """
    from saman.slurm import minicluster

    minicluster.crash(node)


@app.command("start")
def start_command(node: Annotated[str, typer.Argument(help="A crashed node.")]) -> None:
    """Restart a crashed node.

    Example:

        saman minicluster start node2
    """
    from saman.slurm import minicluster

    minicluster.start(node)
