"""A user's project on this machine and its place on a cluster: which code goes there, and how a command finds it."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.private_values import references
from saman.configs.schemas.cluster import Access, Cluster
from saman.jobs.remote.session import run_request
from saman.jobs.remote.ssh import saman_words
from saman.jobs.remote.wire import Prepared, Record, Request, RequestKind
from saman.runs.remote.remote_runs import RemoteProject
from saman.slurm.code.files import CodeFiles, SentCode, code_files, code_root


@dataclass(frozen=True)
class LocalProject:
    """The code that a command needs, and its working directory.

    Attributes:
        code: The files.
        directory: The working directory, relative to ``code.root``.
        complete: Whether ``code`` is all code of the project.
    """

    code: CodeFiles
    directory: str
    complete: bool

    @property
    def name(self) -> str:
        """The project's folder on a cluster: its own name, and a mark of this machine and path."""
        mark = hashlib.sha256(f"{socket.gethostname()}\0{self.code.root}".encode(errors="surrogateescape"))
        clean = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in self.code.root.name)
        return f"{clean.strip('._-')[:40] or 'project'}-{mark.hexdigest()[:10]}"

    def sent(self) -> dict[str, Any]:
        """The list of the files, for the other side."""
        origin = f"{socket.gethostname()}:{self.code.root}"
        return SentCode(Path(), tuple(self.code.names()), origin, self.code.left_out, self.code.git).to_json()


def local_project(
    folder: Path, whole: bool, listed: Sequence[Path], more: Sequence[Path], runs_dir: Path
) -> LocalProject:
    """Find the code of a command.

    Args:
        folder: The working directory of the command.
        whole: Whether the run uses the user's code.
        listed: The files of ``--code``, absolute.
        more: Files to add, such as the experiment's; those outside the project are left out.
        runs_dir: The folder of runs, which is never code.

    Raises:
        UserError: The files are too large to be code.
    """
    root = code_root(folder)
    if listed:
        found = code_files(root, listed)
    else:
        found = code_files(root, (), runs_dir) if whole else CodeFiles(root, ())
    extra = [path.resolve() for path in more if root in path.resolve().parents]
    files = tuple(dict.fromkeys([*found.files, *extra]))
    code = CodeFiles(root, files, found.left_out, found.git)
    return LocalProject(code, folder.resolve().relative_to(root).as_posix(), whole and not listed)


def referred_variables(values: object, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of this machine (``${env:NAME}``) to which the project to send refers.

    Raises:
        UserError: A variable is not set.
    """
    found = {}
    for name, key in references(values if isinstance(values, dict) else {}, "env").items():
        if name not in environ:
            problem = f"it refers to the environment variable {name}, which is not set"
            raise UserError(problem, where=key, remedy=f"export {name} before the start")
        found[name] = environ[name]
    return found


def cluster_text(cluster: Cluster) -> str:
    """The cluster file for the login node: without ``access``, and without what is as by default."""
    values = cluster.model_dump(mode="json", by_alias=True, exclude_defaults=True, exclude={"access"})
    return yaml12.dump(values)


def prepare(
    cluster: Cluster, access: Access, local: LocalProject, note: Callable[[str], None], again: bool = False
) -> tuple[RemoteProject, frozenset[str]]:
    """Make the project's folder on the cluster, and announce the code.

    Returns:
        The project there, and its runs as ``experiment/id``.

    Raises:
        EnvironmentLack: There is no connection, no saman, no rsync there, or the folder cannot be written.
    """
    place = RemoteProject(cluster.name, access.ssh, saman_words(cluster), access.folder)
    request = Request(
        RequestKind.PREPARE, access.folder, project=local.name, sent=local.sent(), partly=not local.complete
    )
    answers: list[Prepared] = []

    def take(record: Record) -> None:
        if isinstance(record, Prepared):
            answers.append(record)

    run_request(place, lambda: request, take, note, again)
    if not answers or not answers[0].folder.startswith("/"):
        raise EnvironmentLack("the project's folder could not be made", where=access.ssh)
    if not answers[0].rsync:
        raise EnvironmentLack("no rsync on the login node", where=access.ssh, remedy="load or install rsync there")
    return RemoteProject(place.cluster, place.host, place.saman, answers[0].folder), frozenset(answers[0].runs)
