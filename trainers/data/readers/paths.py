"""Files by pattern, the shards that a pattern lacks, and names inside a data folder."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from saman.configs.errors import UserError
from saman.configs.home_folder import in_home

_SHARD = re.compile(r"(?P<before>.*?)(?P<number>\d+)-of-(?P<count>\d+)(?P<after>.*)")
MOST_SHARDS = 1_000_000


def data_files(patterns: str | Sequence[str], where: str) -> list[Path]:
    """Return the files of patterns in the order of their names, with those that ``…-00003-of-00010`` names promise.

    Args:
        patterns: Paths with the wildcards of ``glob``; ``~`` is the home folder. A folder stands for its files.
        where: The key of the experiment, for messages.

    Raises:
        UserError: A pattern matches no file.
    """
    found: dict[Path, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        path = in_home(pattern)
        if glob.has_magic(pattern) and not path.exists():
            names = glob.glob(str(path), recursive=True)  # noqa: PTH207  (Path.glob takes no absolute pattern)
            matches = sorted(match for match in map(Path, names) if match.is_file())
        elif path.is_dir():
            matches = sorted(inner for inner in path.iterdir() if inner.is_file() and not inner.name.startswith("."))
        else:
            matches = [path]
        if not matches:
            raise UserError(f"no file matches {pattern!r}", where=where, remedy="correct the path or the pattern")
        found.update(dict.fromkeys(matches))
    return with_promised_shards(list(found))


def with_promised_shards(files: Sequence[Path]) -> list[Path]:
    """Add the shards that the names of others promise, so that a missing shard is noticed.

    >>> [path.name for path in with_promised_shards([Path("a-00000-of-00002"), Path("b")])]
    ['a-00000-of-00002', 'a-00001-of-00002', 'b']
    """
    promised: dict[Path, None] = {}
    for path in files:
        match = _SHARD.fullmatch(path.name)
        count = int(match["count"]) if match and len(match["count"]) < 8 else 0
        if match is None or not int(match["number"]) < count <= MOST_SHARDS:
            promised[path] = None
            continue
        width = len(match["number"])
        for number in range(count):
            name = f"{match['before']}{number:0{width}d}-of-{match['count']}{match['after']}"
            promised[path.with_name(name)] = None
    return list(promised)


def inside(folder: Path, name: str, where: str) -> Path:
    """Return the file that a name from a data file means: a name in the data folder, never a path out of it.

    Raises:
        UserError: The name is absolute, or leads upward.
    """
    parts = PurePosixPath(name)
    if not name or parts.is_absolute() or ".." in parts.parts or "\0" in name:
        raise UserError(f"{name!r} is not the name of a file in {folder}", where=where, remedy="list names inside it")
    return folder / parts
