"""Remembers which runs were submitted from this machine over ssh, and where they are: ``remote.json`` of each run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.names import is_run_name
from saman.runs.files.whole import write_json
from saman.runs.find import find_runs
from saman.runs.paths.run import REMOTE_FILE, RunPaths
from saman.runs.records.schema import read_record
from saman.runs.trust.ownership import find_doubt


@dataclass(frozen=True)
class RemoteProject:
    """The place of a project's runs on a cluster.

    Attributes:
        cluster: The name in the cluster file.
        host: The login node, as ssh takes it.
        saman: The words of a shell that start saman there.
        folder: The project's folder there, absolute.
    """

    cluster: str
    host: str
    saman: str
    folder: str

    @property
    def runs_dir(self) -> str:
        """The folder of remote runs."""
        return f"{self.folder}/runs"

    @property
    def models_dir(self) -> str:
        """The folder of models of remote runs."""
        return f"{self.folder}/models"

    @property
    def code(self) -> str:
        """The synchronised code of remote runs."""
        return f"{self.folder}/code"

    def run_folder(self, run: RunPaths) -> str:
        """The folder of a remote run."""
        return f"{self.runs_dir}/{run.experiment_name}/{run.id}"


@dataclass(frozen=True)
class RemoteRun:
    """A run on a cluster. ``complete``: it was fetched whole after its end, so that the local folder tells all."""

    run: RunPaths
    project: RemoteProject
    complete: bool = False

    def write(self) -> None:
        """Remember the run; its local folder is made if it is missing."""
        self.run.path.mkdir(parents=True, exist_ok=True)
        project = self.project
        place = {"cluster": project.cluster, "host": project.host, "saman": project.saman, "folder": project.folder}
        write_json(self.run.remote_file, {"schema": 1, **place, "complete": self.complete})

    @classmethod
    def read(cls, run: RunPaths) -> RemoteRun | None:
        """Read the record of a run; ``None`` without one, or if it is damaged.

        Raises:
            UserError: Another user may have written it: it names a host and a command.
        """
        value = read_record(run.remote_file)
        if value is None:
            return None
        doubt = find_doubt(run.remote_file)
        if doubt is not None:
            raise UserError(doubt.reason, where=str(doubt.path), remedy=doubt.remedy)
        place = [value.get(key) for key in ("cluster", "host", "saman", "folder")]
        if not all(isinstance(text, str) and text for text in place) or str(place[1]).startswith("-"):
            return None
        return cls(run, RemoteProject(*map(str, place)), value.get("complete") is True)

    def with_complete(self, complete: bool) -> RemoteRun:
        """The record with ``complete`` set; written if it changes."""
        changed = replace(self, complete=complete)
        if changed != self:
            changed.write()
        return changed


def remember(project: RemoteProject, names: Iterable[str], runs_dir: Path) -> list[RemoteRun]:
    """Remember runs that a cluster names, each as ``experiment/id``.

    The names are not trusted: other texts, and those of runs of this machine or of another project, are dropped.
    """
    found = []
    for name in names:
        if is_run_name(name):
            remote = RemoteRun(RunPaths(runs_dir.absolute() / name), project)
            known = _readable(remote.run)
            if known.project == project if known is not None else not remote.run.path.exists():
                remote.write()
                found.append(remote)
    return found


def remote_runs(runs_dir: Path) -> list[RemoteRun]:
    """List the remembered runs under ``runs_dir``, oldest first."""
    return [remote for run in _remembered(runs_dir) if (remote := _readable(run)) is not None]


def _remembered(runs_dir: Path) -> list[RunPaths]:
    folders = sorted({file.parent for file in runs_dir.glob(f"*/*/{REMOTE_FILE}")}, key=lambda folder: folder.name)
    return [RunPaths(folder.absolute()) for folder in folders]


def _readable(run: RunPaths) -> RemoteRun | None:
    """The record of a run; ``None`` too if another user may have written it: that must not stop other commands."""
    with contextlib.suppress(UserError):
        return RemoteRun.read(run)
    return None


def find_remote_run(text: str, runs_dir: Path) -> RemoteRun | None:
    """Find the remembered run that ``text`` names, as ``runs.find.find_run`` finds a run here.

    Args:
        text: A path, a run id or its unique beginning, the name of an experiment (its newest run), or ``last``.
        runs_dir: The folder of runs.

    Returns:
        The run; ``None`` if the text names a run of this machine, or none.

    Raises:
        UserError: Another user may have written the record of the run.
    """
    path = Path(text)
    if not text:
        return None
    if path.is_dir() and (len(path.parts) > 1 or text in (".", "..")):
        return RemoteRun.read(RunPaths(path.absolute()))
    remembered = {run.id: run for run in _remembered(runs_dir)}
    if not remembered:
        return None
    names = {run.id: run.experiment_name for run in [*find_runs(runs_dir), *remembered.values()]}
    ids = sorted(names)
    meant = ids[-1:] if text == "last" else [identity for identity in ids if names[identity] == text][-1:]
    meant = meant or [identity for identity in ids if identity.startswith(text)]
    run = remembered.get(meant[0]) if len(meant) == 1 else None
    return None if run is None else RemoteRun.read(run)
