"""The files and folders that an experiment's ``data.args`` name, as archives for the nodes."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from saman.configs.home_folder import in_home
from saman.launcher.staging.archive import Archive, content_facts, kept_archive, stamp_of

MOST_FILES = 2_000_000  # of a folder; more are not listed at every start of a job


def data_paths(args: Mapping[str, Any]) -> list[Path]:
    """The files and folders that arguments name by absolute paths, each once."""
    texts = [value for value in args.values() if isinstance(value, str) and value[:1] in ("/", "~")]
    paths = [in_home(text) for text in texts]
    return list(dict.fromkeys(path for path in paths if path != Path("/") and path.exists()))


def data_archive(path: Path, tell: Callable[[str], None]) -> Archive:
    """A file itself, or the archive of a folder from the cache. Raises as ``kept_archive``."""
    stamp = stamp_of("data", path, content_facts(path))
    if path.is_file():
        return Archive(path, stamp, packed=False)

    def fill(archive: tarfile.TarFile) -> None:
        archive.add(path, f"data/{path.name}", recursive=True)

    return kept_archive(stamp, fill, tell)


def copy_of(folder: Path, path: Path) -> Path:
    """The place of ``path`` in the unpacked ``folder``."""
    return folder / "data" / path.name
