"""Finds a version by ``NAME[:VERSION|:LABEL]`` and tells where its files are. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import UserError
from saman.registry.lifecycle.reconcile import is_in_staging
from saman.registry.store import manifest
from saman.registry.store.layout import ModelFolder, find_model, parse_spec
from saman.registry.store.manifest import Manifest
from saman.registry.store.model_state import ModelState, VersionState, read_model


@dataclass(frozen=True)
class ModelVersion:
    """A version with its model: ``record`` is the log's record of it."""

    folder: ModelFolder
    state: ModelState
    record: VersionState

    @property
    def number(self) -> int:
        """The version's number."""
        return self.record.number

    @property
    def path(self) -> Path:
        """The folder of the version once it is visible."""
        return self.folder.version(self.record.number)

    @property
    def in_staging(self) -> bool:
        """Whether the version is published but not visible yet."""
        return is_in_staging(self.folder, self.record)

    def read_manifest(self) -> Manifest:
        """Read the manifest, also of a version that is not visible yet; raises ``UserError`` for a damaged manifest."""
        return manifest.read(self.folder.staging / self.record.staging if self.in_staging else self.path)

    def require_visible(self) -> Path:
        """The folder of the version; raises ``UserError`` where its arrival was interrupted."""
        if self.in_staging:
            problem = f"the arrival of {self.folder.name} version {self.number} was interrupted"
            raise UserError(problem, where=str(self.path), remedy="saman models reconcile completes it")
        return self.path


def find_version(models_dir: Path, text: str) -> ModelVersion:
    """Find a version; a name alone means the stable version, else the newest.

    Raises:
        UserError: There is no such model, version or label; the error lists those that exist.
    """
    spec = parse_spec(text)
    folder = find_model(models_dir, spec.name)
    state = read_model(folder)
    return ModelVersion(folder, state, state.find(spec))
