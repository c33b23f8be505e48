"""Finds runs under a folder of runs, and the run that a user names."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from saman.configs.errors import UserError, choices
from saman.runs.folder import RunFolder
from saman.runs.paths.names import names_in
from saman.runs.paths.run import EXPERIMENT_FILE, REMOTE_FILE, SCRIPT_FILE

# What reading a damaged run folder may raise. A command over many runs names the run and goes on with the others.
DAMAGE = (UserError, OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)
_SPECS = (EXPERIMENT_FILE, SCRIPT_FILE)


def find_runs(runs_dir: Path, name: str = "*") -> list[RunFolder]:
    """List the runs under ``runs_dir``, oldest first; with ``name`` those of an experiment or study.

    >>> find_runs(Path("a/folder/that/does/not/exist"))
    []
    """
    groups = [group for group in runs_dir.absolute().glob(name) if not group.name.startswith(".")]  # .code is hidden
    return sorted((run for group in groups for run in _runs_in(group)), key=lambda run: run.id)


def _runs_in(group: Path) -> Iterator[RunFolder]:
    """The runs of a folder of runs; a single question to the file system for a run of an experiment."""
    parent = str(group)
    for entry in names_in(group):
        if entry.startswith("."):
            continue
        if any(os.path.exists(os.path.join(parent, entry, file)) for file in _SPECS):  # noqa: PTH110, PTH118  (fast)
            yield RunFolder(group / entry)


def find_run(text: str, runs_dir: Path) -> RunFolder:
    """Find the run that ``text`` names.

    Args:
        text: A path, a run id or its unique beginning, the name of an experiment (its newest run), or ``last``.
        runs_dir: The folder of runs.

    Raises:
        UserError: No run, or several runs, have this name.
    """
    if not text:
        raise UserError("the name of a run is empty", remedy="is a variable of the shell unset?")
    if Path(text).is_dir() and (len(Path(text).parts) > 1 or text in (".", "..")):
        return RunFolder.open(Path(text))
    runs = find_runs(runs_dir)
    if not any(text == "last" or run.id.startswith(text) or run.experiment_name == text for run in runs):
        _refuse_elsewhere(text, runs_dir)
    if not runs:
        raise UserError(
            f"there are no runs in {runs_dir}", remedy="saman run EXPERIMENT makes a run; --runs-dir names the folder"
        )
    if text == "last":
        return runs[-1]
    named = [run for run in runs if run.experiment_name == text]
    if named:
        return named[-1]
    begins = [run for run in runs if run.id.startswith(text)]
    if len(begins) == 1:
        return begins[0]
    if begins:
        raise UserError(f"{len(begins)} runs begin with {text!r}", remedy=", ".join(run.id for run in begins[-5:]))
    names = {run.experiment_name for run in runs} | {"last"}
    raise UserError(f"no run is called {text!r} in {runs_dir}", remedy=choices(text, names))


def _refuse_elsewhere(text: str, runs_dir: Path) -> None:
    """Raise ``UserError`` if ``text`` names a run on a cluster that has not been fetched (``runs.remote``)."""
    for folder in sorted((file.parent for file in runs_dir.glob(f"*/*/{REMOTE_FILE}")), key=lambda path: path.name):
        if text in ("last", folder.parent.name) or folder.name.startswith(text):
            remedy = f"saman fetch {folder.name}"
            raise UserError("this run is on a cluster; its results are not here", where=str(folder), remedy=remedy)
