"""Archives in the user's cache, named by a digest of their files' sizes and times; each is built once, under a lock."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.runs import caches, variables


@dataclass(frozen=True)
class Archive:
    """A file to copy to each node. ``stamp`` names its content; ``packed`` is false for a plain data file."""

    path: Path
    stamp: str
    packed: bool = True


def stamp_of(kind: str, origin: Path, facts: Iterable[str]) -> str:
    """The name of an archive, from its kind, its origin and a digest of its content."""
    digest = hashlib.sha256("\0".join(facts).encode(errors="surrogateescape")).hexdigest()[:20]
    place = hashlib.sha256(os.fsencode(origin)).hexdigest()[:8]
    return f"{kind}-{place}-{digest}"


def kept_archive(
    stamp: str, fill: Callable[[tarfile.TarFile], None], tell: Callable[[str], None], cache: Path | None = None
) -> Archive:
    """The archive of this name in the cache; a new archive replaces older archives of the same origin.

    Args:
        stamp: The name of its content.
        fill: Adds the content.
        tell: Receives a sentence before a build, which takes up to a minute.
        cache: The cache folder; ``None`` for the user's.

    Raises:
        EnvironmentLack: The cache cannot be written, or other users may write to it.
    """
    cache = caches.cache_folder() if cache is None else cache
    folder = cache / "staged"
    file = folder / f"{stamp}.tar"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        caches.require_trusted(folder)
        with caches.hold_user_lock(stamp, cache, lambda: tell("waiting for another process to build the archive")):
            if not file.is_file():
                tell(f"building {file}, once for this content")
                _build(file, fill)
                _forget_others(file)
    except OSError as error:
        problem = f"the archive for the nodes cannot be built: {error.strerror or error}"
        remedy = f"make room, or name another cache folder with {variables.CACHE_DIR}"
        raise EnvironmentLack(problem, where=str(error.filename or file), remedy=remedy) from error
    return Archive(file, stamp)


def _build(file: Path, fill: Callable[[tarfile.TarFile], None]) -> None:
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as archive:
                fill(archive)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _forget_others(file: Path) -> None:
    """Remove archives of the same origin with other content."""
    origin = file.name.rpartition("-")[0]
    for other in file.parent.glob(f"{origin}-*.tar"):
        if other != file:
            other.unlink(missing_ok=True)


def content_facts(root: Path) -> list[str]:
    """Name, size and time of every file below ``root``, sorted; of ``root`` itself if it is a file."""
    if root.is_file():
        return [_facts(root, root.name)]
    found = []
    for folder, folders, names in os.walk(root):
        folders.sort()
        found += [_facts(Path(folder, name), os.path.relpath(os.path.join(folder, name), root)) for name in names]  # noqa: PTH118
    return sorted(found)


def _facts(file: Path, name: str) -> str:
    state = file.lstat()
    return f"{name}:{state.st_size}:{state.st_mtime_ns}"
