"""Loads a version: verify and copy, rehearse at the lowest priority, load into a process that waits, warm."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.registry.store import manifest
from saman.registry.store.layout import ModelFolder
from saman.serving.interface.signatures import DEFAULT, parse_signatures, read_signature_map
from saman.serving.supervision.engine_process import EngineProcess
from saman.serving.supervision.rehearsal import rehearse, warm
from saman.serving.supervision.settings import EngineChoice, ServeSettings
from saman.serving.supervision.snapshot import check_memory, take_snapshot


@dataclass
class LoadedVersion:
    """A version with its engine; the engine is exchanged where it was killed."""

    model: str
    number: int
    kind: str
    engine: EngineProcess
    snapshot: Path
    socket: str
    signature_map: bytes

    @property
    def files(self) -> Path:
        """What the engine loads."""
        return self.snapshot / "onnx" if self.kind == "onnx" else self.snapshot

    @property
    def local_files(self) -> str:
        """What a front may load to compute the version itself; empty for engines that need a process of their own."""
        return str(self.files) if self.kind == "openvino" else ""

    def end(self) -> None:
        """End the engine and remove the copy."""
        self.engine.end()
        shutil.rmtree(self.snapshot, ignore_errors=True)


class Loader:
    """Makes engines of versions.

    Args:
        settings: The server's settings.
        runtime: A private folder for sockets and copies.
    """

    def __init__(self, settings: ServeSettings, runtime: Path) -> None:
        self._settings, self._runtime = settings, runtime
        self._numbers = itertools.count(1)
        self._spares: dict[str, EngineProcess] = {}
        self._lock = threading.Lock()

    def load(self, folder: ModelFolder, number: int) -> LoadedVersion:
        """Load a version and warm it.

        Raises:
            UserError: It is damaged, does not fit into memory, or answers its sample differently.
        """
        snapshot = self._runtime / f"v{next(self._numbers)}"
        try:
            about = take_snapshot(folder, number, snapshot, needs_onnx=self._settings.engine is EngineChoice.ONNX)
            signature_map = read_signature_map(snapshot)
            kind = self._choose(snapshot, about, signature_map)
            engine = self._take_spare(kind)
            loaded = LoadedVersion(folder.name, number, kind, engine, snapshot, str(engine.socket_path), signature_map)
            try:
                engine.load(loaded.files)
                warm(engine, snapshot, parse_signatures(signature_map), self._settings.batches.rows)
            except BaseException:
                engine.kill()
                raise
        except BaseException:
            shutil.rmtree(snapshot, ignore_errors=True)
            raise
        self.prepare_spare(kind)
        return loaded

    def _choose(self, snapshot: Path, about: manifest.Manifest, signature_map: bytes) -> str:
        """Find an engine that answers the stored sample like the manifest."""
        choice = self._settings.engine
        kinds = [choice.value]
        if choice is EngineChoice.AUTO:
            others = [name for name in parse_signatures(signature_map) if name != DEFAULT]
            kinds = ["tensorflow"] if others else ["openvino", "tensorflow"]
        problems: list[UserError] = []
        for kind in kinds:
            try:
                self._rehearse(kind, snapshot, about, signature_map)
                return kind
            except UserError as error:
                problems.append(error)
        own = [error for error in problems if not isinstance(error, EnvironmentLack)] or problems
        raise own[0]

    def _rehearse(self, kind: str, snapshot: Path, about: manifest.Manifest, signature_map: bytes) -> None:
        check_memory(kind, about.total_bytes)
        engine = self._start(kind, is_rehearsal=True)
        try:
            engine.load(snapshot / "onnx" if kind == "onnx" else snapshot)
            rehearse(engine, snapshot, about, parse_signatures(signature_map))
        finally:
            engine.kill()

    def revive(self, loaded: LoadedVersion) -> None:
        """Replace a killed engine by a process that waits, at the same socket; raises ``UserError``."""
        engine = self._take_spare(loaded.kind)
        try:
            engine.load(loaded.files)
            Path(engine.socket_path).rename(loaded.socket)  # fronts connect to the old name
        except BaseException:
            engine.kill()
            raise
        engine.socket_path = Path(loaded.socket)
        loaded.engine = engine
        self.prepare_spare(loaded.kind)

    def prepare_spare(self, kind: str) -> None:
        """Keep a process of this kind waiting, its library imported."""
        with self._lock:
            if kind not in self._spares:
                self._spares[kind] = self._start(kind, is_rehearsal=False)

    def _take_spare(self, kind: str) -> EngineProcess:
        with self._lock:
            engine = self._spares.pop(kind, None)
        if engine is not None and engine.status() is None:
            return engine
        return self._start(kind, is_rehearsal=False)

    def _start(self, kind: str, *, is_rehearsal: bool) -> EngineProcess:
        settings, path = self._settings, self._runtime / f"e{next(self._numbers)}"
        return EngineProcess(kind, path, settings.threads, settings.batches, is_rehearsal=is_rehearsal)

    def close(self) -> None:
        """End the waiting processes."""
        with self._lock:
            for engine in self._spares.values():
                with contextlib.suppress(OSError):
                    engine.kill()
            self._spares.clear()
