"""``saman shell`` and ``saman notebook``: interactive work on compute nodes."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import (
    RUNS,
    ClusterChanges,
    ClusterName,
    Exclude,
    Gpus,
    Json,
    Nodes,
    Partition,
    RunsDir,
    TimeLimit,
    TotalRanks,
    Words,
)
from saman.cli.output import print_json, shown_path
from saman.configs.errors import EnvironmentLack, UserError

if TYPE_CHECKING:
    from saman.configs.schemas.cluster import Cluster
    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script
    from saman.runs.folder import RunFolder
    from saman.runs.ranks.notebook import NotebookRecord

_TITLE = "shell"


def shell_command(
    context: typer.Context,
    arguments: Words = None,
    cluster: ClusterName = None,
    nodes: Nodes = None,
    ranks: TotalRanks = None,
    time_limit: TimeLimit = None,
    gpus: Gpus = None,
    partition: Partition = None,
    set_cluster: ClusterChanges = None,
    exclude: Exclude = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the salloc command; start nothing.")] = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Open a shell inside an allocation, with the resources of an experiment and the environment of its jobs.

    In the shell, `saman run` starts on the nodes of the allocation. A program after -- runs instead of the shell.

    Examples:

        saman shell --cluster mysite --nodes 2 --time 30

        saman shell my.yaml --cluster mysite -np 8

        saman shell --cluster mysite --nodes 2 -- saman run my.yaml -np 8
    """
    import os

    from saman.runs.commands import become
    from saman.slurm.job.interactive import is_inside
    from saman.slurm.session.shell import salloc_command
    from saman.slurm.site import client
    from saman.slurm.site.access import require_here
    from saman.slurm.site.default_cluster import choose_cluster
    from saman.slurm.submission import planning
    from saman.slurm.submission.known_options import slurm_options

    if is_inside(os.environ):
        where = f"job {os.environ['SLURM_JOB_ID']}"
        raise UserError("this shell is inside an allocation already", where=where, remedy="saman run uses its nodes")
    chosen = choose_cluster(cluster)
    changes, ranks = slurm_options(ranks, nodes, time_limit, gpus)
    spec = _spec([*(arguments or []), *changes], ranks)
    site = require_here(chosen.load(tuple(set_cluster or ())), "saman shell")
    plan = planning.plan(spec, site, runs_dir, partition)
    command = salloc_command(plan, tuple(exclude or ()), context.obj or ())
    for note in filter(None, [chosen.note, *plan.notes]):
        typer.echo(note, err=True)
    if dry_run:
        typer.echo(shlex.join(command))
        return
    if not client.available("salloc"):
        raise EnvironmentLack("command not found: salloc", remedy="use a login node of the cluster")
    planning.test_only(plan, tuple(exclude or ()))  # a wrong account or node: sbatch's refusal, read and explained
    become(command, client.clean_environment(os.environ))


def _spec(arguments: list[str], ranks: int | None) -> Experiment | Script:
    from saman.configs.loading.experiments import load_experiment
    from saman.launcher.programs import script_from_command

    if arguments and "=" not in arguments[0]:
        return load_experiment(arguments[0], arguments[1:], ranks).experiment
    return script_from_command(["true"], [*arguments, f"name={_TITLE}"], ranks)


def notebook_command(
    cluster: ClusterName = None,
    time_limit: TimeLimit = None,
    gpus: Gpus = None,
    cores: Annotated[int | None, typer.Option("--cores", min=1, help="Default: a whole node.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", help="Memory, such as 16G.")] = None,
    partition: Partition = None,
    set_cluster: ClusterChanges = None,
    login: Annotated[
        str | None, typer.Option("--login", metavar="USER@HOST", help="Login node as your machine calls it.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for the server.")] = 3600.0,
    runs_dir: RunsDir = RUNS,
    as_json: Json = False,
) -> None:
    """Start a Jupyter server on a compute node, and print the ssh tunnel to it.

    The server ends with `saman cancel` or at its time limit. Its token is in a file that only you can read.

    Examples:

        saman notebook --cluster mysite --time 4:00:00 --gpus 1

        saman notebook --cluster mysite --login me@login.example.edu
    """
    from saman.slurm.session.notebook import notebook_script, require_jupyter
    from saman.slurm.site.access import require_here
    from saman.slurm.site.default_cluster import choose_cluster
    from saman.slurm.submission.known_options import clock_of
    from saman.slurm.submission.run_submission import SubmissionOptions, submit_run

    chosen = choose_cluster(cluster)
    site = require_here(chosen.load(tuple(set_cluster or ())), "saman notebook")
    require_jupyter(site)
    wanted = {
        "time_limit": clock_of(time_limit) if time_limit else None, "gpus_per_rank": gpus, "cpus_per_rank": cores,
        "memory_per_rank": memory,
    }  # fmt: skip
    spec = notebook_script(site, Path.cwd(), {name: value for name, value in wanted.items() if value is not None})
    options = SubmissionOptions(runs_dir=runs_dir, partition=partition, copy_code=False)
    done = submit_run(spec, site, (), options)
    run = done.submissions[0].run
    for note in filter(None, [chosen.note, *done.notes, f"job {done.submissions[0].job}: {run.path}"]):
        typer.echo(note, err=True)
    _show(run, _wait(run, site, timeout), login, as_json)


def _wait(run: RunFolder, site: Cluster, seconds: float) -> NotebookRecord:
    """Wait until the server listens; raise with what its log says if it ends before."""
    from saman.cli.log_lines import progress_lines
    from saman.jobs.logs import read_logs
    from saman.jobs.watch import RunWatch
    from saman.runs.ranks.notebook import NotebookRecord

    watch, tell, deadline = RunWatch([run]), progress_lines(), time.monotonic() + seconds
    while (server := NotebookRecord.read(run.notebook)) is None:
        (status,) = watch.look()
        tell(status)
        if status.over:
            try:
                said = "".join(piece.text for piece in read_logs(run)).strip().splitlines()
            except UserError:
                said = []
            problem = said[-1].removeprefix("saman: ") if said else status.detail
            raise EnvironmentLack(f"the server did not start: {problem}", where=run.id, remedy=f"saman logs {run.id}")
        if time.monotonic() > deadline:
            raise EnvironmentLack(
                f"no server after {seconds:.0f} s: {status.detail}", where=run.id,
                remedy=f"saman status {run.id} shows the job, saman cancel {run.id} ends it",
            )  # fmt: skip
        time.sleep(0.5)
    return server


def _show(run: RunFolder, server: NotebookRecord, login: str | None, as_json: bool) -> None:
    from saman.slurm.session.notebook import tunnel

    command, url = tunnel(server, login), f"http://127.0.0.1:{server.port}/lab"
    file = shown_path(run.notebook)
    if as_json:
        print_json({"run": str(run.path), "node": server.node, "tunnel": command, "url": url, "token_file": file})
        return
    typer.echo(f"Jupyter runs on {server.node}. On your own machine:")
    typer.echo(f"  {command}")
    typer.echo(f"  open {url}; the token is in {file}, which only you can read")
    typer.echo(f"saman cancel {run.id} ends it")
