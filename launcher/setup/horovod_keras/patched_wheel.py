"""Applies the patch set to a wheel of Horovod and packs it again, with the digests that pip checks."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import zipfile
from pathlib import Path

from saman.configs.errors import EnvironmentLack
from saman.launcher.setup.horovod_keras.unified_diff import DiffMismatchError, apply_diff

PATCHES = Path(__file__).resolve().parent / "patches"


def patch_files() -> list[Path]:
    """The patches in the order in which they apply."""
    return sorted(PATCHES.glob("*.patch"))


def patch_set_digest() -> str:
    """The digest of the patch set, part of the key of a patched wheel."""
    digest = hashlib.sha256()
    for file in patch_files():
        digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def patched_texts(texts: dict[str, str], where: str) -> dict[str, str]:
    """The files that the patch set changes, by path.

    Args:
        texts: the Python files of Horovod by path, such as ``horovod/keras/__init__.py``.
        where: the name of their origin, for messages.

    Raises:
        EnvironmentLack: A patch does not fit: it is another Horovod.
    """
    changed: dict[str, str] = {}
    for file in patch_files():
        try:
            changed |= apply_diff({**texts, **changed}, file.read_text("utf-8"))
        except DiffMismatchError as error:
            raise EnvironmentLack(f"{file.name} does not fit this Horovod: {error}", where=where) from None
    return changed


def patch_wheel(wheel: Path, folder: Path) -> Path:
    """Write the patched wheel, of the same name, into ``folder``; every other file stays as it is."""
    target = folder / wheel.name
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        texts = {name: old.read(name).decode() for name in old.namelist() if name.endswith(".py")}
        changed = patched_texts(texts, wheel.name)
        record = next(name for name in old.namelist() if name.endswith(".dist-info/RECORD"))
        for entry in old.infolist():
            if entry.filename in changed:
                new.writestr(entry, changed[entry.filename], zipfile.ZIP_DEFLATED)
            elif entry.filename == record:
                new.writestr(entry, _updated_record(old.read(record).decode(), changed), zipfile.ZIP_DEFLATED)
            else:
                new.writestr(entry, old.read(entry), entry.compress_type)
    return target


def _updated_record(text: str, changed: dict[str, str]) -> str:
    """The wheel's list of files with the digests and sizes of the changed files.

    The format: https://packaging.python.org/en/latest/specifications/recording-installed-packages/#the-record-file
    """
    rows = []
    for path, digest, size in csv.reader(io.StringIO(text)):
        if path in changed:
            data = changed[path].encode()
            sha256 = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            rows.append((path, f"sha256={sha256}", str(len(data))))
        else:
            rows.append((path, digest, size))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue()
