"""Lists the files of the user's code: those that a submission copies, here or to another machine.

In a git repository these are every tracked file, and the untracked files that git does not ignore. Elsewhere they are
the source files below the folder. With ``--code`` they are the listed files only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.runs.commands import COMMAND_ERRORS, run_command

LARGEST_BYTES = 200 << 20
MOST_FILES = 20_000
_SOURCES = frozenset({".py", ".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".txt", ".sh", ".csv"})
_SKIPPED = frozenset({"__pycache__", "node_modules", "runs", "models", "venv", "env", "site-packages"})
_REMEDY = "list the files to copy with --code PATH (repeatable), or run the code in place with --no-snapshot"


@dataclass(frozen=True)
class GitState:
    """The commit of a repository, and the difference of its files to that commit; empty without a difference."""

    commit: str | None
    diff: str = ""


@dataclass(frozen=True)
class CodeFiles:
    """Files of code below a folder.

    Attributes:
        root: The folder: a git repository, or a folder outside git.
        files: The files, absolute.
        left_out: What lies beside them and is not among them, relative to ``root``.
        git: The state of the repository; ``None`` without a repository, or for listed files.
    """

    root: Path
    files: tuple[Path, ...]
    left_out: tuple[str, ...] = ()
    git: GitState | None = None

    def names(self) -> list[str]:
        """The files relative to ``root``."""
        return [file.relative_to(self.root).as_posix() for file in self.files]


@dataclass(frozen=True)
class SentCode:
    """The list of files that another machine sent to ``folder``, for the copy of a submission here.

    Attributes:
        folder: The folder that holds the files, on this machine.
        names: The files, relative to ``folder``.
        origin: The folder on the other machine.
        left_out: What lies beside them there and was not sent.
        git: The state of the repository there.
    """

    folder: Path
    names: tuple[str, ...]
    origin: str
    left_out: tuple[str, ...] = ()
    git: GitState | None = None

    def files(self) -> CodeFiles:
        """The files of code sent with a job, as far as they are here."""
        found = tuple(path for name in self.names if (path := self.folder / name).is_file())
        return CodeFiles(self.folder, found, self.left_out, self.git)

    def to_json(self) -> dict[str, Any]:
        """The list of code sent with a job as a JSON object, without the folder."""
        git = None
        if self.git is not None:
            diff = self.git.diff.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            git = {"commit": self.git.commit, "diff": diff}
        return {"names": list(self.names), "origin": self.origin, "left_out": list(self.left_out), "git": git}

    @classmethod
    def from_json(cls, folder: Path, value: dict[str, Any]) -> SentCode:
        """Read what ``to_json`` wrote of code sent with a job; names that lead out of the folder are dropped."""
        git = value.get("git")
        state = GitState(git.get("commit"), str(git.get("diff") or "")) if isinstance(git, dict) else None
        names = tuple(name for name in map(str, value.get("names") or ()) if is_inside(name))
        return cls(folder, names, str(value.get("origin")), tuple(map(str, value.get("left_out") or ())), state)


def is_inside(name: str) -> bool:
    """Whether a relative name of a code file stays inside its folder, whatever the folder.

    >>> is_inside("a/b.py"), is_inside("../b.py"), is_inside("/etc/passwd"), is_inside("a//b")
    (True, False, False, False)
    """
    return "\0" not in name and all(part not in ("", ".", "..") for part in name.split("/"))


def code_root(folder: Path) -> Path:
    """The git repository around a folder of code; the folder itself without a repository."""
    return repository(folder) or folder.resolve()


def code_files(
    folder: Path,
    listed: Sequence[Path] = (),
    runs_dir: Path | None = None,
    models_dir: Path = Path("models"),
) -> CodeFiles:
    """List the files of code in ``folder``, or only the ``listed`` files and folders.

    Args:
        folder: A folder of code; a folder in a git repository stands for the whole repository.
        listed: The files and folders to take; empty for all code.
        runs_dir: The folder of all runs, which may lie among the code and is never code.
        models_dir: The folder of published models, which may lie among the code too. Of its files, those that git
            tracks are code, and all if it is a Python package.

    Raises:
        UserError: A listed file does not exist, or the files are too large to be code.
    """
    folder = folder.resolve()
    top = None if listed else repository(folder)
    root = top or folder
    files = list(_listed(root, listed) if listed else _tracked(root) if top else _sources(root))
    models = _untracked_models(root, models_dir) if top else frozenset()
    files = [file for file in files if file not in models]
    if runs_dir is not None and not listed:
        files = [file for file in files if runs_dir.resolve() not in file.parents]
    check_size(root, files)
    left_out = [*_left_out(root, files, top is not None), *([f"{models_dir.name}/"] if models else [])]
    return CodeFiles(root, tuple(files), tuple(left_out), _state(root) if top else None)


def check_size(root: Path, files: Sequence[Path]) -> None:
    """Raise ``UserError`` if the files are too large, or too many, to be code."""
    total = 0
    for number, source in enumerate(files, 1):
        total += source.lstat().st_size
        if total > LARGEST_BYTES or number > MOST_FILES:
            size = f"more than {LARGEST_BYTES >> 20} MiB or {MOST_FILES} files"
            raise UserError(f"the code below {root} has {size}", where="snapshot", remedy=_REMEDY)


def repository(folder: Path) -> Path | None:
    """The git repository around the code to copy; ``None`` without a repository or without git."""
    said = _git(folder, "rev-parse", "--show-toplevel")
    return Path(said.strip()).resolve() if said and said.strip() else None


def _state(root: Path) -> GitState:
    diff = _git(root, "diff", "--binary", "HEAD") or ""
    return GitState((_git(root, "rev-parse", "HEAD") or "").strip() or None, diff)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = run_command(["git", "-C", str(folder), *arguments], timeout_seconds=120, errors="surrogateescape")
    except COMMAND_ERRORS:
        return None
    return done.stdout if done.returncode == 0 else None


def _tracked(root: Path) -> Iterator[Path]:
    said = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard") or ""
    for name in dict.fromkeys(said.split("\0")):
        if name and ((root / name).is_file() or (root / name).is_symlink()):
            yield root / name


def _untracked_models(root: Path, models_dir: Path) -> frozenset[Path]:
    """The files of published models below ``root`` that git would take for new code; none in a Python package."""
    if any(models_dir.glob("*.py")) or root not in models_dir.resolve().parents:
        return frozenset()
    folder = models_dir.resolve().relative_to(root).as_posix()
    said = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", folder) or ""
    return frozenset(root / name for name in said.split("\0") if name)


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
    """What lies below ``root`` and is not among the files: what git ignores, else the entries of ``root`` itself."""
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
