"""``saman submit`` to a cluster with ``access``: sends the code, and submits on the login node."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from saman.cli.remote.forwarding import exit_with, given_words, logs_there, note, show

if TYPE_CHECKING:
    from saman.configs.schemas.cluster import Cluster
    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script
    from saman.jobs.remote.project import LocalProject
    from saman.jobs.remote.wire import End, Request
    from saman.runs.remote.remote_runs import RemoteProject

_TURN_SECONDS = 1800.0  # how long to wait for another submission of the project, which may send much
# Parameters of `saman submit` that this machine deals with, or that mean something else there.
_OWN = ("cluster", "set_cluster", "runs_dir", "models_dir", "follow", "code", "sent")
_NAME_RUNS = ("--after", "--after-ok", "--after-any")


@dataclass(frozen=True)
class Submittal:
    """What a user submits: the checked experiment or program, and how it was typed.

    Attributes:
        spec: The experiment or program.
        words: The arguments of the command: an experiment and changes, or changes.
        program: What follows ``--``.
        file: The experiment's file; ``None`` for a program and for a shipped experiment.
    """

    spec: Experiment | Script
    words: tuple[str, ...]
    program: tuple[str, ...] | None = None
    file: Path | None = None


def submit_there(
    context: typer.Context,
    site: Cluster,
    typed: Submittal,
    code: Sequence[Path],
    runs_dir: Path,
    follow: bool,
    as_json: bool = False,
) -> None:
    """Send the code, submit on the login node, and remember the run; then follow it if that is wanted.

    Args:
        context: The command, parsed; its options are passed on.
        site: The cluster, with ``access``.
        typed: What to submit.
        code: The files of ``--code``.
        runs_dir: The folder of runs on this machine.
        follow: Whether to print the log of rank 0 until the run has ended.
        as_json: Whether standard output is for JSON, so that the log goes to standard error.
    """
    from saman.jobs.remote.project import prepare
    from saman.jobs.remote.transfer import push, require_rsync
    from saman.runs import locks
    from saman.runs.remote.remote_runs import remember

    assert site.access is not None
    require_rsync()
    local = _local(typed, code, runs_dir)
    request = _request(context, site, typed, local, runs_dir)
    # Another submission of this project would change the code on the other side.
    with locks.hold(runs_dir.absolute() / ".remote.lock", wait_seconds=_TURN_SECONDS, this_machine=True):
        project, before = prepare(site, site.access, local, note)
        push(local.code, project, note)
        end = _submitted(site, local, project, before, request)
        runs = remember(project, end.runs, runs_dir)
    exit_with(end.status)
    if follow and runs:
        exit_with(_follow(runs[0].run.id, runs_dir, as_json))


def _local(typed: Submittal, code: Sequence[Path], runs_dir: Path) -> LocalProject:
    """The project around the working directory, or around an experiment that lies elsewhere."""
    from saman.jobs.remote.project import local_project
    from saman.slurm.code.files import code_root
    from saman.slurm.submission.code_copy import code_folders

    folder, file = Path.cwd(), typed.file and typed.file.resolve()
    if file is not None and code_root(folder) not in file.parents:
        folder = file.parent
    whole = bool(code_folders(typed.spec, (folder,)))
    return local_project(folder, whole, [path.absolute() for path in code], [file] if file else [], runs_dir)


def with_run_ids(options: Sequence[str], runs_dir: Path) -> list[str]:
    """Options with the ids of runs there instead of their names here: ``last`` may be another run there."""
    from saman.runs.remote.remote_runs import find_remote_run

    words = []
    for option in options:
        name, _, text = option.partition("=")
        remote = find_remote_run(text, runs_dir) if name in _NAME_RUNS else None
        words.append(option if remote is None else f"{name}={remote.run.id}")
    return words


def _request(context: typer.Context, site: Cluster, typed: Submittal, local: LocalProject, runs_dir: Path) -> Request:
    from saman.jobs.remote.project import cluster_text, referred_variables
    from saman.jobs.remote.wire import FILE_PREFIX, Request, RequestKind

    name = f"{site.name}.yaml"
    files, words = _experiment(typed, local)
    files[name] = cluster_text(site)
    options = with_run_ids(given_words(context, _OWN), runs_dir)
    return Request(
        RequestKind.COMMAND, "", directory=local.directory, program=typed.program, files=files, survives=True,
        arguments=("submit", *options, "--cluster", f"{FILE_PREFIX}{name}", *words),
        environment=referred_variables(typed.spec.resolved()),
    )  # fmt: skip


def _experiment(typed: Submittal, local: LocalProject) -> tuple[dict[str, str], list[str]]:
    """The files that travel with the request, and the arguments as they are right on the other side."""
    from saman.configs.private_values import SECRETS_FILE
    from saman.jobs.remote.wire import FILE_PREFIX

    words = list(typed.words)
    if typed.file is None:
        return {}, words
    file, beside = typed.file.resolve(), typed.file.resolve().with_name(SECRETS_FILE)
    if local.code.root in file.parents and not beside.is_file():
        return {}, [os.path.relpath(file, local.code.root / local.directory), *words[1:]]
    paths = [path for path in (file, beside) if path.is_file()]
    return {path.name: path.read_text("utf-8") for path in paths}, [f"{FILE_PREFIX}{file.name}", *words[1:]]


def _submitted(
    site: Cluster, local: LocalProject, project: RemoteProject, before: frozenset[str], request: Request
) -> End:
    """Submit; after a lost connection find out what became of it, instead of submitting twice."""
    from dataclasses import replace

    from saman.configs.errors import EnvironmentLack, ExitCode
    from saman.jobs.remote.project import prepare
    from saman.jobs.remote.session import ConnectionLost, run_request
    from saman.jobs.remote.wire import End

    places = (
        "--runs-dir",
        project.runs_dir,
        "--models-dir",
        project.models_dir,
        "--sent",
        f"{project.folder}/sent.json",
    )
    words = request.arguments
    placed = replace(request, folder=project.folder, arguments=(words[0], *places, *words[1:]))
    try:
        return run_request(project, lambda: placed, show, note)
    except ConnectionLost:
        note(f"the connection to {project.host} was lost during the submission; asking what became of it")
    assert site.access is not None
    _, now = prepare(site, site.access, local, note, again=True)
    if not now - before:
        problem = "the connection was lost before the run was submitted"
        raise EnvironmentLack(problem, where=project.host, remedy="submit it again")
    for name in sorted(now - before):
        note(f"submitted: {name}")
    return End(ExitCode.DONE, tuple(sorted(now - before)))


def _follow(run: str, runs_dir: Path, as_json: bool) -> int:
    """Print the log of rank 0 until the run has ended; returns the run's exit status."""
    from saman.configs.errors import ExitCode
    from saman.jobs.remote.wire import LogRequest
    from saman.runs.remote.remote_runs import find_remote_run

    remote = find_remote_run(run, runs_dir)
    assert remote is not None
    log = LogRequest(f"{remote.run.experiment_name}/{run}", follow=True, outcome=True)
    status = logs_there(remote, log, lambda text: typer.echo(text, nl=False, err=as_json))
    if status == ExitCode.INTERRUPTED:
        typer.echo(f"\nthe run continues: saman logs -f {run}; saman cancel {run} ends it", err=True)
    return status
