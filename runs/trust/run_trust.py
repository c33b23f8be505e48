"""Whether a run folder may decide what this user executes, as git asks before it runs the hooks of a repository.

A run folder names commands, code, environment variables, process ids and servers. Commands that act on these refuse a
folder that another user owns or may write to, unless the user's settings list it as safe. Commands that only show a run
do not ask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.home_folder import in_home
from saman.configs.loading.settings import load_settings, settings_file
from saman.configs.schemas.settings import Settings
from saman.runs.folder import RunFolder
from saman.runs.paths.names import names_in
from saman.runs.trust.ownership import Doubt, Fault, find_doubt, user_name


def require_trusted(run: RunFolder, action: str) -> None:
    """Refuse a run that another user controls.

    Args:
        run: The run.
        action: The command, for the message: ``resume``, ``publish``, …

    Raises:
        UserError: Another user owns a deciding file of the run, or may write to it, and the run is not listed as safe.
    """
    doubt = run_doubt(run)
    if doubt is not None:
        raise _refusal(doubt, run.path, action)


def require_trusted_files(files: Sequence[Path], action: str) -> None:
    """Refuse files beside runs that another user controls; the first is their folder. Raises as ``require_trusted``."""
    folder = files[0]
    doubt = next((found for path in files if (found := find_doubt(path)) is not None), None)
    if doubt is not None and not _listed_as_safe(folder.resolve()):
        raise _refusal(doubt, folder, action)


def _refusal(doubt: Doubt, folder: Path, action: str) -> UserError:
    where = str(folder)
    name = "it" if doubt.path in (folder, folder.resolve()) else str(doubt.path)
    if doubt.fault is Fault.WRITABLE:
        problem = f"dubious permissions: {name} {doubt.reason}, so that they decide what {action} does as you"
        return UserError(problem, where=where, remedy=f"{doubt.remedy}, after a look at the files")
    if doubt.fault is Fault.KIND:
        return UserError(f"{name} {doubt.reason}", where=where, remedy=doubt.remedy)
    problem = f"dubious ownership: {name} {doubt.reason}, who would decide what {action} does as you"
    listed = f"add {folder} or a folder above it to `safe` in {settings_file()}"
    return UserError(problem, where=where, remedy=f"if you trust {user_name(doubt.owner)}, {listed}")


def is_trusted(run: RunFolder) -> bool:
    """Whether ``require_trusted`` lets the run pass. Raises ``UserError`` for mistakes in the user's settings."""
    return run_doubt(run) is None


def run_doubt(run: RunFolder) -> Doubt | None:
    """Find the first file by which another user could decide what is executed for this run.

    Returns:
        The file; ``None`` if there is none, or if the user's settings list the run as safe.
    """
    doubt = find_run_doubt(run)
    return None if doubt is None or _listed_as_safe(run.path.resolve()) else doubt


def find_run_doubt(run: RunFolder) -> Doubt | None:
    """Find such a file, whatever the user's settings say."""
    here = RunFolder(run.path.resolve())
    return next((found for path in _deciding(here) if (found := find_doubt(path)) is not None), None)


def _deciding(run: RunFolder) -> Iterator[Path]:
    """The folder first: in a folder of this user alone, nobody else can exchange the files."""
    yield run.path
    yield from (run.experiment_file, run.script_file, run.events_file)
    yield from (run.attempts_folder, run.checkpoints, run.export)
    for folder in (run.control, run.slurm.path):
        yield folder
        yield from (folder / name for name in names_in(folder))
    for code in run.code_path:
        if code.is_relative_to(run.runs_dir):  # a copy of the code; other code is where the user keeps it
            yield from _tree(code)


def _tree(folder: Path) -> Iterator[Path]:
    yield folder
    for name in names_in(folder):
        path = folder / name
        yield from _tree(path) if path.is_dir() and not path.is_symlink() else (path,)


def trusted_settings() -> Settings:
    """The user's settings, if they can be trusted: ``UserError`` for mistakes, and if others may write to the file."""
    file = settings_file()
    doubt = find_doubt(file)
    if doubt is not None:
        raise UserError(f"dubious settings: {doubt}", where=str(file), remedy=doubt.remedy)
    return load_settings()


def _listed_as_safe(folder: Path) -> bool:
    safe = (in_home(text).resolve() for text in trusted_settings().safe)
    return any(folder.is_relative_to(each) for each in safe)
