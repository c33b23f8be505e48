"""A private copy of a verified version: what is checked is what an engine loads, whatever happens on disk later.

Every file is hashed while it is copied. An engine maps files into memory, so a version that is damaged or exchanged on
disk while it is served would otherwise change answers.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from saman.configs.errors import UserError
from saman.configs.units import format_bytes
from saman.registry.lifecycle.verify import require_sound
from saman.registry.store import manifest
from saman.registry.store.layout import MANIFEST, VALIDATION, ModelFolder, check_relative_path
from saman.registry.store.manifest import Manifest
from saman.runs.engines.interface import COMPILED
from saman.runs.files.whole import read_json

_CHUNK = 1 << 20
# What an engine needs beside the model's own size, in bytes, and the factor on that size.
_BASE = {"openvino": 150 << 20, "onnx": 150 << 20, "tensorflow": 900 << 20}
_FACTOR = 3
_MOST_COMPILED = 16 << 20  # bytes of a model whose compiled forms are kept; it counts for small ones
_COMPILED_FORMS = 8  # each about as large as the model


def take_snapshot(folder: ModelFolder, number: int, target: Path, *, needs_onnx: bool) -> Manifest:
    """Verify a version and copy it.

    Args:
        folder: The model.
        number: The version.
        target: The folder of the copy; it is made, for a small model with an empty folder for what an engine compiles.
            The ONNX format is copied to ``onnx/`` in it.
        needs_onnx: Whether the ONNX format is needed too.

    Returns:
        The manifest.

    Raises:
        UserError: The version, its signature or its log is damaged, or it has no ONNX format.
    """
    require_sound(folder, number)
    source, about = folder.version(number), manifest.read(folder.version(number))
    digests = {path: record.sha256 for path, record in about.files.items() if _is_served(path)}
    _copy(source, target, digests)
    if about.total_bytes <= _MOST_COMPILED:
        (target / COMPILED).mkdir()
    if needs_onnx:
        _copy(folder.format(number, "onnx"), target / "onnx", _onnx_digests(folder, number))
    return about


def copy_bytes(about: Manifest) -> int:
    """What a copy takes, with all that may be compiled beside it."""
    return about.total_bytes * (1 + _COMPILED_FORMS * (about.total_bytes <= _MOST_COMPILED))


def _is_served(path: str) -> bool:
    return path != MANIFEST and (not path.startswith("assets.extra/") or path == VALIDATION)


def _onnx_digests(folder: ModelFolder, number: int) -> Mapping[str, str]:
    file = folder.format(number, "onnx") / "saman.json"
    record = read_json(file)  # verified with the version
    if not isinstance(record, dict):
        problem = f"{folder.name} version {number} was not converted to ONNX"
        raise UserError(problem, remedy=f"saman models export {folder.name}:{number} onnx")
    return {check_relative_path(path, str(file)): str(about["sha256"]) for path, about in record["files"].items()}


def _copy(source: Path, target: Path, digests: Mapping[str, str]) -> None:
    for path, expected in digests.items():
        place = target / path
        place.parent.mkdir(parents=True, exist_ok=True)
        state = hashlib.sha256()
        with (source / path).open("rb") as given, place.open("wb") as copy:
            while chunk := given.read(_CHUNK):
                state.update(chunk)
                copy.write(chunk)
        if state.hexdigest() != expected:
            shutil.rmtree(target, ignore_errors=True)
            raise UserError(
                "the file changed while it was read", where=str(source / path), remedy="saman models verify"
            )


def check_memory(kind: str, model_bytes: int) -> None:
    """Raise ``UserError`` where a version may not fit into the memory that is available."""
    needed, free = _BASE[kind] + _FACTOR * model_bytes, available_memory()
    if free is not None and free < needed:
        problem = f"loading needs about {format_bytes(needed)}, but only {format_bytes(free)} of memory are available"
        raise UserError(problem, remedy="serve fewer versions on this machine: saman models prune, unlabel")


def available_memory() -> int | None:
    """Bytes that new engine processes can use: of the machine, or of this process's control group if that is less."""
    found = [_machine_memory(), _group_memory()]
    known = [value for value in found if value is not None]
    return min(known) if known else None


def _machine_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _group_memory(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    try:
        limit, used = ((root / f"memory.{name}").read_text("ascii").strip() for name in ("max", "current"))
        return None if limit == "max" else int(limit) - int(used)
    except (OSError, ValueError):
        return None
