"""Copies the user's code at submission, so that edits while the job waits have no effect on it.

In a git repository the copy has every tracked file with its uncommitted changes, and the untracked files that git does
not ignore. Elsewhere it has the source files below the folder. With ``--code`` it has the listed files only.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.names import is_reference
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.launcher.programs import with_absolute_files
from saman.runs.commands import COMMAND_ERRORS, run_command
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.paths.runs_folder import code_diff, new_code_folder
from saman.runs.trust.ownership import close_to_others

_log = logging.getLogger(__name__)

LARGEST_BYTES = 200 << 20
MOST_FILES = 20_000
MOST_NAMED = 5  # files that were not copied, in a sentence
_SOURCES = frozenset({".py", ".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".txt", ".sh", ".csv"})
_SKIPPED = frozenset({"__pycache__", "node_modules", "runs", "models", "venv", "env", "site-packages"})
_REMEDY = "list the files to copy with --code PATH (repeatable), or run the code in place with --no-snapshot"


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
    spec: Experiment | Script, code_path: Sequence[Path], runs_dir: Path, listed: Sequence[Path] = ()
) -> Snapshot | None:
    """Copy the user's code that the run uses to ``runs_dir/.code``.

    Args:
        spec: the experiment or script.
        code_path: folders of the user's code, for an experiment that names a function in them.
        runs_dir: the folder of all runs.
        listed: the files and folders to copy; empty for all code.

    Returns:
        The copy; ``None`` if the run uses no code of the user.
    """
    if isinstance(spec, Script):
        folders: Sequence[Path] = [Path(spec.directory)]
    else:
        named = is_reference(spec.model.build) or is_reference(spec.data.source)
        folders = list(code_path) if named else []
    if not folders:
        return None
    into = new_code_folder(runs_dir)
    with explain_write_errors(into, "the copy of your code"):
        into.mkdir(parents=True)
        try:
            copied = copy_code(folders, into, listed, runs_dir)
            close_to_others(into)  # the job executes it; git and umask may allow a whole group to write
            _log.debug("code of %s copied to %s", ", ".join(map(str, folders)), into)
            return copied
        except BaseException:
            shutil.rmtree(into, ignore_errors=True)
            raise


def describe_copy(spec: Experiment | Script, copy: Snapshot | None) -> list[str]:
    """What the job takes from a copy of the code and what it does not, for people."""
    if copy is None:
        return []
    origin = copy.origin
    state = f", commit {origin.commit[:10]}{' with changes' * bool(origin.changed)}" if origin.commit else ""
    sentences = [f"code: {copy.files} files copied from {', '.join(origin.folders)}{state}; imports use the copy"]
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
        shutil.rmtree(copy.folder, ignore_errors=True)


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
    folders: Sequence[Path], into: Path, listed: Sequence[Path] = (), runs_dir: Path | None = None
) -> Snapshot:
    """Copy the code of ``folders``, or only the ``listed`` files and folders.

    Args:
        folders: the folders of code; a folder in a git repository stands for the whole repository.
        into: the folder for the copy.
        listed: the files and folders to copy; empty for all code.
        runs_dir: the folder of all runs, which may lie among the code and is never copied.

    Raises:
        UserError: The code is too large to be code.
    """
    moved: dict[Path, Path] = {}
    origin = CodeOrigin(tuple(str(folder) for folder in folders))
    roots: dict[Path, Path] = {}
    count, left_out = 0, []
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        top = None if listed else repository(folder)
        root = top or folder
        if root not in roots:
            roots[root] = into / (str(len(roots)) if roots else root.name or "code")
            files = list(_listed(root, listed) if listed else _tracked(root) if top else _sources(root))
            if runs_dir is not None and not listed:
                files = [file for file in files if runs_dir.resolve() not in file.parents]
            _copy(root, files, roots[root])
            count += len(files)
            left_out += _left_out(root, files, in_git=top is not None)
            if top:
                origin = _with_commit(origin, root, into)
        moved[folder] = roots[root] / folder.relative_to(root)
        moved[folder].mkdir(parents=True, exist_ok=True)
    return Snapshot(into, moved, origin, count, tuple(left_out))


def repository(folder: Path) -> Path | None:
    """The git repository around the code to copy; ``None`` without a repository or without git."""
    said = _git(folder, "rev-parse", "--show-toplevel")
    return Path(said.strip()).resolve() if said and said.strip() else None


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = run_command(["git", "-C", str(folder), *arguments], timeout_seconds=120, errors="surrogateescape")
    except COMMAND_ERRORS:
        return None
    return done.stdout if done.returncode == 0 else None


def _with_commit(origin: CodeOrigin, root: Path, into: Path) -> CodeOrigin:
    """Add the commit of the repository ``root``; write uncommitted changes to a diff beside the copy."""
    diff = _git(root, "diff", "--binary", "HEAD") or ""
    if diff:
        code_diff(into).write_text(diff, encoding="utf-8", errors="surrogateescape")
    commit = (_git(root, "rev-parse", "HEAD") or "").strip() or None
    return replace(origin, commit=commit, changed=bool(diff))


def _tracked(root: Path) -> Iterator[Path]:
    said = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard") or ""
    for name in dict.fromkeys(said.split("\0")):
        if name and ((root / name).is_file() or (root / name).is_symlink()):
            yield root / name


def _sources(root: Path) -> Iterator[Path]:
    if root in (Path.home().resolve(), Path("/")):
        raise UserError(f"refusing to copy all of {root}", where="snapshot", remedy=_REMEDY)
    folders = [root]
    while folders:
        for path in sorted(folders.pop().iterdir()):
            if path.is_dir() and not path.is_symlink():
                hidden = path.name.startswith(".") or path.name in _SKIPPED or (path / "pyvenv.cfg").exists()
                folders += [] if hidden else [path]
            elif path.suffix in _SOURCES and path.is_file():
                yield path


def _left_out(root: Path, files: Sequence[Path], in_git: bool) -> list[str]:
    """What lies below ``root`` and was not copied: what git ignores, else the entries of ``root`` itself."""
    if in_git:
        said = _git(root, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory") or ""
        return sorted(name for name in said.split("\0") if name and "__pycache__" not in name)
    copied = {file.relative_to(root).parts[0] for file in files}
    return sorted(
        path.name + "/" * path.is_dir() for path in root.iterdir() if path.name not in copied | {"__pycache__", ".git"}
    )


def _listed(root: Path, listed: Sequence[Path]) -> Iterator[Path]:
    for entry in listed:
        path = (root / entry).resolve() if not entry.is_absolute() else entry.resolve()
        if not path.exists():
            raise UserError("no such file or folder", where=f"--code {entry}")
        if root != path and root not in path.parents:
            raise UserError(f"outside {root}", where=f"--code {entry}", remedy="run saman from a folder above it")
        yield from (file for file in sorted(path.rglob("*")) if file.is_file()) if path.is_dir() else iter([path])


def _copy(root: Path, files: Sequence[Path], into: Path) -> None:
    total = 0
    into.mkdir(parents=True, exist_ok=True)
    for number, source in enumerate(files, 1):
        total += source.lstat().st_size
        if total > LARGEST_BYTES or number > MOST_FILES:
            size = f"more than {LARGEST_BYTES >> 20} MiB or {MOST_FILES} files"
            raise UserError(f"the code below {root} has {size}", where="snapshot", remedy=_REMEDY)
        target = into / source.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=True)
