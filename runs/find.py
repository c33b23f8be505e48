"""Find runs under a folder of runs, and the one run that a person names."""

from __future__ import annotations

from pathlib import Path

from saman.configs.errors import UserError, choices
from saman.runs.folder import RunFolder


def find_runs(runs_dir: Path) -> list[RunFolder]:
    """Every run under ``runs_dir``, oldest first."""
    folders = {path.parent for name in ("experiment.yaml", "script.yaml") for path in runs_dir.glob(f"*/*/{name}")}
    return [RunFolder(folder.absolute()) for folder in sorted(folders, key=lambda folder: folder.name)]


def find_run(text: str, runs_dir: Path) -> RunFolder:
    """The run that a person means: a path, a run id or its unique beginning, an experiment's newest, or ``last``.

    Raises ``UserError`` where that is none or several.
    """
    if Path(text).is_dir() and (len(Path(text).parts) > 1 or text in (".", "..")):
        return RunFolder.open(Path(text))
    runs = find_runs(runs_dir)
    if not runs:
        raise UserError(
            f"no run is in {runs_dir}", remedy="saman run EXPERIMENT makes one; --runs-dir names another folder"
        )
    if text == "last":
        return runs[-1]
    named = [run for run in runs if run.path.parent.name == text]
    if named:
        return named[-1]
    begins = [run for run in runs if run.id.startswith(text)]
    if len(begins) == 1:
        return begins[0]
    if begins:
        raise UserError(f"{len(begins)} runs begin with {text!r}", remedy=", ".join(run.id for run in begins[-5:]))
    names = {run.path.parent.name for run in runs} | {"last"}
    raise UserError(f"no run is called {text!r} in {runs_dir}", remedy=choices(text, names))
