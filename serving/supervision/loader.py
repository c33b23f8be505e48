"""Loads a checked version into an engine of its own, and warms it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saman.registry.store.layout import ModelFolder
from saman.serving.interface.signatures import parse_signatures
from saman.serving.supervision.checking import CheckedVersion, Checker
from saman.serving.supervision.engine_process import EnginePool, EngineProcess, twice
from saman.serving.supervision.rehearsal import warm
from saman.serving.supervision.snapshot import check_memory


@dataclass
class LoadedVersion:
    """A version with its engine; the engine is exchanged where it was killed."""

    model: str
    number: int
    checked: CheckedVersion
    engine: EngineProcess
    socket: str

    @property
    def kind(self) -> str:
        """The kind of its engine."""
        return self.checked.kind

    @property
    def local_files(self) -> str:
        """What a front may load to compute the version itself; empty for engines that need a process of their own."""
        return str(self.checked.files) if self.kind == "openvino" else ""

    def end(self) -> None:
        """End the engine."""
        self.engine.end()


class Loader:
    """Makes engines of versions.

    Args:
        checker: Checks versions.
        engines: Starts processes.
        rows: Most examples of a batch.
    """

    def __init__(self, checker: Checker, engines: EnginePool, rows: int) -> None:
        self._checker, self._engines, self._rows = checker, engines, rows

    def load(self, folder: ModelFolder, number: int, *, is_urgent: bool = False) -> LoadedVersion:
        """Check a version, load it and warm it.

        Args:
            folder: The model's folder.
            number: The version.
            is_urgent: Whether requests wait for it: its check then runs at normal priority, else at the lowest.

        Raises:
            UserError: It is damaged, does not fit into memory, or answers its sample differently.
        """
        checked = self._checker.check(folder, number, is_urgent=is_urgent)
        check_memory(checked.kind, checked.model_bytes)
        engine = twice(lambda: self._warmed(checked))
        return LoadedVersion(folder.name, number, checked, engine, str(engine.socket_path))

    def _warmed(self, checked: CheckedVersion) -> EngineProcess:
        engine = self._engines.take(checked.kind)
        try:
            is_quiet = self._engines.may_be_quiet(checked.kind)
            engine.load(checked.files, is_quiet=is_quiet)
            warm(engine, checked.snapshot, parse_signatures(checked.signature_map), self._rows)
            if is_quiet:
                engine.serve()
        except BaseException:
            engine.kill()
            raise
        return engine

    def revive(self, loaded: LoadedVersion) -> None:
        """Replace a killed engine by a new one, at the same socket; raises ``UserError``."""

        def attempt() -> EngineProcess:
            engine = self._engines.take(loaded.kind, is_urgent=True)
            try:
                engine.load(loaded.checked.files)
                engine.socket_path.rename(loaded.socket)  # fronts connect to the old name
            except BaseException:
                engine.kill()
                raise
            return engine

        loaded.engine = twice(attempt)
        loaded.engine.socket_path = Path(loaded.socket)
