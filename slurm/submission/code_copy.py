"""Copies the user's code at submission, so that edits while the job waits have no effect on it.

``slurm.code.files`` says which files the copy has.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.names import is_reference
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.launcher.programs import with_absolute_files
from saman.runs.files.removal import remove_with_parents
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.paths.runs_folder import code_diff, new_code_folder
from saman.runs.trust.ownership import close_to_others
from saman.slurm.code.files import CodeFiles, GitState, SentCode, code_files, code_root

_log = logging.getLogger(__name__)

MOST_NAMED = 5  # files that were not copied, in a sentence


@dataclass(frozen=True)
class CodeOrigin:
    """Where copied code comes from: its folders, and the commit with whether files were ``changed`` since."""

    folders: tuple[str, ...]
    commit: str | None = None
    changed: bool | None = None

    def to_json(self) -> dict[str, Any]:
        """The origin as the run's ``created`` event holds it; facts of git only where there is a repository."""
        git = {} if self.changed is None else {"commit": self.commit, "changed": self.changed}
        return {"folders": list(self.folders), **git}


@dataclass(frozen=True)
class Snapshot:
    """A copy of code: the place of each original folder in it, and the git state of the originals.

    ``files`` is their number; ``left_out`` names what lies beside them and was not copied.
    """

    folder: Path
    moved: dict[Path, Path]
    origin: CodeOrigin
    files: int = 0
    left_out: tuple[str, ...] = ()

    def of(self, path: Path) -> Path:
        """The copy of a folder; the folder itself if it was not copied."""
        return self.moved.get(path.resolve(), path)


def code_copy(
    spec: Experiment | Script,
    code_path: Sequence[Path],
    runs_dir: Path,
    listed: Sequence[Path] = (),
    sent: SentCode | None = None,
    models_dir: Path = Path("models"),
) -> Snapshot | None:
    """Copy the user's code that the run uses to ``runs_dir/.code``.

    Args:
        spec: the experiment or script.
        code_path: folders of the user's code, for an experiment that names a function in them.
        runs_dir: the folder of all runs.
        listed: the files and folders to copy; empty for all code.
        sent: the files that another machine sent for this run; they are its code.
        models_dir: the folder of published models.

    Returns:
        The copy; ``None`` if the run uses no code of the user.
    """
    folders = code_folders(spec, code_path)
    if not folders:
        return None
    into = new_code_folder(runs_dir)
    with explain_write_errors(into, "the copy of your code"):
        into.mkdir(parents=True)
        try:
            copied = copy_code(folders, into, listed, runs_dir, sent, models_dir)
            close_to_others(into)  # the job executes it; git and umask may allow a whole group to write
            _log.debug("code of %s copied to %s", ", ".join(map(str, folders)), into)
            return copied
        except BaseException:
            shutil.rmtree(into, ignore_errors=True)
            raise


def code_folders(spec: Experiment | Script, code_path: Sequence[Path]) -> list[Path]:
    """The folders of the user's code that a run uses; empty if it uses none."""
    if isinstance(spec, Script):
        return [Path(spec.directory)]
    named = is_reference(spec.model.build) or is_reference(spec.data.source)
    return list(code_path) if named else []


def describe_copy(spec: Experiment | Script, copy: Snapshot | None) -> list[str]:
    """What the job takes from a copy of the code and what it does not, for people."""
    if copy is None:
        return []
    origin = copy.origin
    state = f", commit {origin.commit[:10]}{' with changes' * bool(origin.changed)}" if origin.commit else ""
    counted = f"{copy.files} file{'' if copy.files == 1 else 's'}"
    sentences = [f"code: {counted} copied from {', '.join(origin.folders)}{state}; imports use the copy"]
    if copy.left_out:
        more = f" and {len(copy.left_out) - MOST_NAMED} more" if len(copy.left_out) > MOST_NAMED else ""
        sentences.append(f"not copied: {', '.join(copy.left_out[:MOST_NAMED])}{more}")
    if isinstance(spec, Script):
        places = {"user": spec.directory, "run": "the run folder", "copy": "the copy, where ignored files are missing"}
        sentences.append(f"the program runs in {places[spec.launch.directory]} (launch.directory)")
    return sentences


def discard(copy: Snapshot | None) -> None:
    """Remove a copy that no run uses."""
    if copy is not None:
        remove_with_parents(copy.folder)


def relocated(spec: Experiment | Script, code: Snapshot | None) -> Experiment | Script:
    """``spec`` changed to use the copy: arguments of a program that name copied files name the copies.

    The program runs in its own folder all the same, unless ``launch.directory`` is ``copy``.
    """
    if not isinstance(spec, Script):
        return spec
    if code is not None:
        old, new = Path(spec.directory).resolve(), code.of(Path(spec.directory))
        spec = spec.model_copy(update={"command": [_moved(argument, old, new) for argument in spec.command]})
        if spec.launch.directory == "copy":
            return spec.model_copy(update={"directory": str(new)})
    return with_absolute_files(spec)


def _moved(argument: str, old: Path, new: Path) -> str:
    """The copy of the file that an argument names; the argument itself if it names none."""
    path = Path(os.path.normpath(old / argument))
    copied = new / path.relative_to(old) if old in path.parents else None
    return str(copied) if copied is not None and copied.is_file() else argument


def copy_code(
    folders: Sequence[Path],
    into: Path,
    listed: Sequence[Path] = (),
    runs_dir: Path | None = None,
    sent: SentCode | None = None,
    models_dir: Path = Path("models"),
) -> Snapshot:
    """Copy the code of ``folders``, or only the ``listed`` files and folders.

    Args:
        folders: the folders of code; a folder in a git repository stands for the whole repository.
        into: the folder for the copy.
        listed: the files and folders to copy; empty for all code.
        runs_dir: the folder of all runs, which may lie among the code and is never copied.
        sent: the files that another machine sent; a folder among them stands for all of them.
        models_dir: the folder of published models, whose untracked files are no code.

    Raises:
        UserError: The code is too large to be code.
    """
    moved: dict[Path, Path] = {}
    roots: dict[Path, Path] = {}
    git: GitState | None = None
    count, left_out = 0, list[str]()
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        here = sent if sent is not None and sent.folder in (folder, *folder.parents) else None
        root = here.folder if here else folder if listed else code_root(folder)
        if root not in roots:
            found = here.files() if here else code_files(folder, listed, runs_dir, models_dir)
            roots[root] = into / (str(len(roots)) if roots else root.name or "code")
            _copy(found, roots[root])
            count += len(found.files)
            left_out += found.left_out
            git = found.git or git
            if found.git and found.git.diff:
                code_diff(into).write_text(found.git.diff, encoding="utf-8", errors="surrogateescape")
        moved[folder] = roots[root] / folder.relative_to(root)
        moved[folder].mkdir(parents=True, exist_ok=True)
    named = (sent.origin,) if sent else tuple(str(folder) for folder in folders)
    origin = CodeOrigin(named, git.commit, bool(git.diff)) if git else CodeOrigin(named)
    return Snapshot(into, moved, origin, count, tuple(left_out))


def _copy(code: CodeFiles, into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    for source in code.files:
        target = into / source.relative_to(code.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=True)
