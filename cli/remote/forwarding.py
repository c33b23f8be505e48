"""Carries out commands on a login node: submission with the user's code, and commands about runs that are there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from saman.configs.errors import EnvironmentLack

if TYPE_CHECKING:
    from saman.jobs.remote.wire import LogRequest, Record, Request
    from saman.runs.remote.remote_runs import RemoteProject, RemoteRun


def given_words(context: typer.Context, leave_out: Sequence[str]) -> list[str]:
    """The options of a command as they were typed, without those named in ``leave_out`` and without arguments.

    Args:
        context: The command, parsed.
        leave_out: Names of parameters of the command's function.
    """
    words: list[str] = []
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if source is None or source.name != "COMMANDLINE" or name in leave_out or parameter.param_type_name != "option":
            continue
        value = context.params[name]
        option = max(parameter.opts, key=len)
        if isinstance(value, bool):
            words.append(option if value else parameter.secondary_opts[-1])
            continue
        for each in value if isinstance(value, list | tuple) else [value]:
            words.append(f"{option}={each}")
    return words


def note(text: str) -> None:
    """Print a remark about the connection."""
    typer.echo(f"# {text}", err=True)


def show(record: Record) -> None:
    """Print what a command printed on the login node."""
    from saman.jobs.remote.session import print_output

    print_output(record, lambda text: typer.echo(text, nl=False), lambda text: typer.echo(text, nl=False, err=True))


def named_runs(
    texts: Sequence[str] | None, runs_dir: Path, newest: int = 0, reading: bool = True
) -> tuple[list[str], list[RemoteRun]]:
    """Separate the runs of clusters from those of this machine.

    Args:
        texts: Names of runs; empty for the newest.
        runs_dir: The folder of runs.
        newest: Number of newest runs if there are no names.
        reading: Whether the command only reads: then a run that was fetched after its end is here.

    Returns:
        The texts that name runs here, and the runs elsewhere.
    """
    from saman.runs.remote.remote_runs import find_remote_run, remote_runs

    if not texts:
        return [], [remote for remote in remote_runs(runs_dir) if not remote.complete][-newest:]
    here, there = [], []
    for text in texts:
        remote = find_remote_run(text, runs_dir)
        if remote is None:
            here.append(text)
        elif remote.complete and reading:
            here.append(str(remote.run.path))
        else:
            there.append(remote)
    return here, there


def by_project(runs: Sequence[RemoteRun]) -> dict[RemoteProject, list[RemoteRun]]:
    """The runs that a command forwards to other machines, by their place."""
    found: dict[RemoteProject, list[RemoteRun]] = {}
    for remote in runs:
        found.setdefault(remote.project, []).append(remote)
    return found


def run_there(
    runs: Sequence[RemoteRun], words: Sequence[str], again: bool = False, take: Callable[[Record], None] = show
) -> int:
    """Run a command about runs on their login nodes; returns the highest exit status.

    Args:
        runs: The runs.
        words: The command and its options.
        again: Whether the command may be repeated after a lost connection.
        take: Receives what the command prints.
    """
    from saman.jobs.remote.session import run_request
    from saman.jobs.remote.wire import Request, RequestKind

    worst = 0
    projects = by_project(runs)
    for project, some in projects.items():
        if len(projects) > 1 and take is show:
            typer.echo(f"# {project.cluster}, {project.host}:{project.folder}", err=True)
        ids = [remote.run.id for remote in some]
        arguments = (*words, "--runs-dir", project.runs_dir, *ids)
        request = Request(RequestKind.COMMAND, project.folder, arguments=arguments, survives=not again)
        with _losses(project):
            worst = max(worst, run_request(project, lambda request=request: request, take, note, again).status)  # type: ignore[misc]
    return worst


def statuses_there(runs: Sequence[RemoteRun]) -> list[dict[str, Any]]:
    """The statuses of runs as their login nodes report them, in JSON."""
    from saman.jobs.remote.wire import Output
    from saman.runs.files.whole import parse_json

    found: list[dict[str, Any]] = []
    for some in by_project(runs).values():
        texts: list[str] = []

        def take(record: Record, texts: list[str] = texts) -> None:
            if isinstance(record, Output) and not record.error:
                texts.append(record.text)
            else:
                show(record)

        status = run_there(some, ["status", "--json"], again=True, take=take)
        if status:
            raise typer.Exit(status)
        try:
            value = parse_json("".join(texts))
        except ValueError:
            value = None
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise EnvironmentLack("the login node's list of runs is no JSON list", where=some[0].project.host)
        found += value
    return found


def logs_there(remote: RemoteRun, log: LogRequest, print_piece: Callable[[str], None]) -> int:
    """Print a log of a run elsewhere; after a lost connection, continue where it stopped. Returns the exit status."""
    from saman.jobs.remote.session import run_request
    from saman.jobs.remote.wire import LogText, Request, RequestKind

    places: dict[str, int] = {}

    def request() -> Request:
        return Request(RequestKind.LOGS, remote.project.folder, log=replace(log, begin=places))

    def take(record: Record) -> None:
        if isinstance(record, LogText):
            places[record.file] = record.end
            print_piece(record.text)
        else:
            show(record)

    return run_request(remote.project, request, take, note, again=True).status


@contextlib.contextmanager
def _losses(project: RemoteProject) -> Iterator[None]:
    """Explain a lost connection, for a command that must not be repeated."""
    from saman.jobs.remote.session import ConnectionLost

    try:
        yield
    except ConnectionLost:
        problem = "the connection was lost; the command may have been carried out"
        raise EnvironmentLack(problem, where=project.host, remedy="saman status shows the runs") from None


def exit_with(status: int) -> None:
    """End the command with the exit status of the login node's, unless it succeeded."""
    if status:
        raise typer.Exit(status)
