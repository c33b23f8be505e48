"""Checks versions before they are needed: verified, copied, and rehearsed.

A version that has passed waits as a private copy, so its promotion only loads the copy. What can change afterwards is
looked at again: the audit log, the policy, the manifest and its signature. Its files are not read again; the copy is.
"""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.units import format_bytes
from saman.registry.lifecycle.verify import require_sound
from saman.registry.store import manifest
from saman.registry.store.layout import ModelFolder
from saman.registry.store.model_state import read_model
from saman.serving.interface.signatures import DEFAULT, parse_signatures, read_signature_map
from saman.serving.supervision.engine_process import EnginePool, twice
from saman.serving.supervision.rehearsal import rehearse
from saman.serving.supervision.settings import EngineChoice
from saman.serving.supervision.snapshot import check_memory, copy_bytes, take_snapshot

_ROOM = 4  # a copy that waits takes at most this part of the free space
Marks = tuple[str, ...]  # digests of a version's manifest and of its converted files' records


@dataclass(frozen=True)
class CheckedVersion:
    """The copy of a version that has passed its checks, and the engine that answered like it."""

    kind: str
    snapshot: Path
    signature_map: bytes
    model_bytes: int
    marks: Marks

    @property
    def files(self) -> Path:
        """What an engine loads."""
        return self.snapshot / "onnx" if self.kind == "onnx" else self.snapshot


class Checker:
    """Checks versions and keeps their copies.

    Args:
        engine: The engine, or ``auto``.
        runtime: A private folder for the copies.
        engines: Starts processes for rehearsals.
    """

    def __init__(self, engine: EngineChoice, runtime: Path, engines: EnginePool) -> None:
        self._engine, self._runtime, self._engines = engine, runtime, engines
        self._numbers = itertools.count(1)
        self._checked: dict[tuple[str, int], CheckedVersion] = {}
        self._busy: dict[tuple[str, int], threading.Lock] = {}

    def holds(self, model: str, number: int) -> bool:
        """Whether a version has passed its checks."""
        return (model, number) in self._checked

    def check(self, folder: ModelFolder, number: int, *, is_urgent: bool = False) -> CheckedVersion:
        """Check a version, the first time with all its files.

        Args:
            folder: The model's folder.
            number: The version.
            is_urgent: Whether requests wait for it: its rehearsal then runs at normal priority, else at the lowest.

        Raises:
            UserError: It is damaged, does not fit into memory, or answers its sample differently.
        """
        key = folder.name, number
        with self._busy.setdefault(key, threading.Lock()):
            marks, before = _marks(folder, number), self._checked.get(key)
            if before is not None and before.marks == marks:
                require_sound(folder, number, reads_files=False)
                return before
            checked = self._checked[key] = self._check(folder, number, marks, is_urgent=is_urgent)
        return checked

    def require_room(self, folder: ModelFolder, number: int) -> None:
        """Raise ``UserError`` where a copy that only waits would take too much of the free space."""
        size, free = copy_bytes(manifest.read(folder.version(number))), shutil.disk_usage(self._runtime).free
        if _ROOM * size > free:
            problem = f"a copy of {format_bytes(size)} would fill {self._runtime} ({format_bytes(free)} are free)"
            raise UserError(problem, remedy="its promotion takes as long as its check")

    def keep(self, model: str, numbers: Collection[int]) -> None:
        """Remove the copies of a model's other versions."""
        for key in [key for key in self._checked if key[0] == model and key[1] not in numbers]:
            shutil.rmtree(self._checked.pop(key).snapshot, ignore_errors=True)

    def _check(self, folder: ModelFolder, number: int, marks: Marks, *, is_urgent: bool) -> CheckedVersion:
        snapshot = self._runtime / f"v{next(self._numbers)}"
        try:
            about = take_snapshot(folder, number, snapshot, needs_onnx=self._engine is EngineChoice.ONNX)
            signature_map = read_signature_map(snapshot)
            kind = self._choose(snapshot, about, signature_map, is_urgent=is_urgent)
        except BaseException:
            shutil.rmtree(snapshot, ignore_errors=True)
            raise
        return CheckedVersion(kind, snapshot, signature_map, about.total_bytes, marks)

    def _choose(self, snapshot: Path, about: manifest.Manifest, signature_map: bytes, *, is_urgent: bool) -> str:
        """Find an engine that answers the stored sample like the manifest."""
        kinds = [self._engine.value]
        if self._engine is EngineChoice.AUTO:
            others = [name for name in parse_signatures(signature_map) if name != DEFAULT]
            kinds = ["tensorflow"] if others else ["openvino", "tensorflow"]
        problems: list[UserError] = []
        for kind in kinds:
            try:
                self._rehearse(kind, snapshot, about, signature_map, is_urgent=is_urgent)
                return kind
            except UserError as error:
                problems.append(error)
        own = [error for error in problems if not isinstance(error, EnvironmentLack)] or problems
        raise own[0]

    def _rehearse(
        self, kind: str, snapshot: Path, about: manifest.Manifest, signature_map: bytes, *, is_urgent: bool
    ) -> None:
        check_memory(kind, about.total_bytes)

        def attempt() -> None:
            engine = self._engines.take(kind, is_rehearsal=True, is_urgent=is_urgent)
            try:
                engine.load(snapshot / "onnx" if kind == "onnx" else snapshot)
                rehearse(engine, snapshot, about, parse_signatures(signature_map))
            finally:
                engine.kill()

        twice(attempt)


def _marks(folder: ModelFolder, number: int) -> Marks:
    version = read_model(folder).version(number)
    return (version.manifest, *(f"{name}:{record.manifest}" for name, record in sorted(version.formats.items())))
