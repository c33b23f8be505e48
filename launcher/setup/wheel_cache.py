"""Caches each built Horovod wheel under a digest of its inputs; safe for concurrent set-ups."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from saman.runs.caches import require_trusted

RECORD = "built.json"


def place(cache: Path, inputs: Mapping[str, str]) -> Path:
    """The folder of the wheel for ``inputs``: readable parts, then a digest of all inputs."""
    digest = hashlib.sha256(json.dumps(dict(inputs), sort_keys=True).encode()).hexdigest()[:12]
    return cache / "wheels" / f"horovod-{inputs['horovod']}-tf{inputs['tensorflow']}-{inputs['python']}-{digest}"


def lookup(folder: Path) -> Path | None:
    """The wheel in ``folder``; None if it is missing or corrupt.

    Raises:
        EnvironmentLack: Another user owns it or may write to it: the digest beside it is then theirs too.
    """
    require_trusted(folder, folder / RECORD)
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
        wheel = folder / Path(record["wheel"]).name
        require_trusted(wheel)
        return wheel if file_sha256(wheel) == record["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def keep(folder: Path, wheel: Path, inputs: Mapping[str, str]) -> Path:
    """Put a wheel into the cache by one rename; replace a corrupt entry.

    Args:
        folder: the place of the wheel in the cache.
        wheel: the wheel's file, which is copied.
        inputs: the versions and settings that the wheel depends on.

    Returns:
        The wheel's path in the cache.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent))
    try:
        shutil.copyfile(wheel, new / wheel.name)
        record = {"wheel": wheel.name, "sha256": file_sha256(wheel), "inputs": dict(inputs)}
        (new / RECORD).write_text(json.dumps(record, indent=1) + "\n", "utf-8")
        for file in new.iterdir():
            file.chmod(0o644)
        new.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder / wheel.name


def file_sha256(path: Path) -> str:
    """The digest of a cached wheel."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
