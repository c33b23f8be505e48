"""``saman fetch``: results of runs on a cluster, over ssh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from saman.cli.options import RUNS, RunsDir

if TYPE_CHECKING:
    from saman.runs.remote.remote_runs import RemoteRun


def fetch_command(
    runs: Annotated[list[str], typer.Argument(help="Runs that were submitted from here over ssh; or last.")],
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="Fetch the checkpoints too.")] = False,
    runs_dir: RunsDir = RUNS,
) -> None:
    """Fetch the results of runs on a cluster to this machine: only what is new, and from where it stopped.

    Private values, locks and, without --checkpoints, checkpoints stay there.

    Examples:

        saman fetch last

        saman fetch my-run --checkpoints
    """
    from saman.cli.remote.forwarding import note, statuses_there
    from saman.configs.units import format_bytes
    from saman.jobs.remote.transfer import fetch

    found = [_remote(text, runs_dir) for text in runs]
    states = {str(status.get("id")): status for status in statuses_there(found)}
    for remote in found:
        status = states.get(remote.run.id, {})
        received = fetch(remote, note, checkpoints)
        # The end came before the transfer began, so that nothing is missing.
        remote.with_complete(str(status.get("state")) in _ENDS)
        typer.echo(f"{remote.run.id}: {format_bytes(received)} received, {status.get('state')}: {remote.run.path}")


_ENDS = ("completed", "failed", "cancelled")


def _remote(text: str, runs_dir: object) -> RemoteRun:
    from pathlib import Path

    from saman.configs.errors import UserError
    from saman.runs.find import find_run
    from saman.runs.remote.remote_runs import find_remote_run

    remote = find_remote_run(text, Path(str(runs_dir)))
    if remote is None:
        here = find_run(text, Path(str(runs_dir)))
        raise UserError("this run was not submitted from here over ssh", where=str(here.path))
    return remote
