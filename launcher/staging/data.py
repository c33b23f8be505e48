"""The files and folders that an experiment's ``data.args`` name, as archives for the nodes."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from saman.configs.home_folder import in_home
from saman.launcher.staging.archive import Archive, content_facts, kept_archive, stamp_of


def data_paths(args: Mapping[str, Any]) -> list[Path]:
    """The files and folders to stage that arguments name by absolute paths, each once."""
    texts = [value for value in args.values() if isinstance(value, str) and value[:1] in ("/", "~")]
    paths = [in_home(text) for text in texts]
    # Not Path.exists, which raises for names that are too long, and in folders that cannot be read.
    return list(dict.fromkeys(path for path in paths if os.path.exists(path) and path.resolve() != Path("/")))  # noqa: PTH110


def data_archive(path: Path, tell: Callable[[str], None]) -> Archive:
    """A file itself, or the archive of a folder from the cache; a link stands for what it leads to.

    Raises as ``kept_archive``.
    """
    path = path.resolve()
    stamp = stamp_of("data", path, content_facts(path))
    if path.is_file():
        return Archive(path, stamp, packed=False)

    def fill(archive: tarfile.TarFile) -> None:
        archive.add(path, f"data/{path.name}", recursive=True, filter=lambda info: _member(info, path))

    return kept_archive(stamp, fill, tell)


def _member(info: tarfile.TarInfo, root: Path) -> tarfile.TarInfo | None:
    """A member as it is packed: without devices and FIFOs; links out of ``root`` lead to the original files."""
    if not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
        return None
    if info.issym():
        target = os.path.normpath(root.parent / Path(info.name).relative_to("data").parent / info.linkname)
        if not Path(target).is_relative_to(root):
            info.linkname = target
    return info


def copy_of(folder: Path, path: Path) -> Path:
    """The place of ``path`` in the unpacked ``folder``."""
    return folder / "data" / path.resolve().name
