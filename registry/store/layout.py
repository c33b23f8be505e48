"""The layout of a models folder, and valid names of models, versions and labels.

::

    models/models.config                   read by TensorFlow Serving (lifecycle/serving_config.py)
    models/policy.yaml                     the gates (configs/schemas/policy.py); models/<name>/policy.yaml overrides it
    models/<name>/<N>/                     a version: a SavedModel, made visible by one rename, never changed
    models/<name>/<N>/assets.extra/        saman.json (the manifest), model.keras, validation.npz, warm-up requests
    models/<name>/formats/<N>/<format>/    the version in another format
    models/<name>/.saman/log/00000001.json the audit log: every change, hash-chained (store/audit_log.py)
    models/<name>/.saman/{staging,trash}/  versions that arrive and versions that leave
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from saman.configs.errors import UserError, choices
from saman.configs.names import is_label, is_name

MANIFEST = "assets.extra/saman.json"
KERAS_FILE = "assets.extra/model.keras"
VALIDATION = "assets.extra/validation.npz"
WARMUP = "assets.extra/tf_serving_warmup_requests"
SIGNATURE = "assets.extra/saman.sig"


@dataclass(frozen=True)
class ModelFolder:
    """The folder of one model's versions."""

    models_dir: Path
    name: str

    @property
    def path(self) -> Path:
        """The folder of the versions; TensorFlow Serving's base path."""
        return self.models_dir / self.name

    @property
    def own(self) -> Path:
        """The registry's own files; TensorFlow Serving reads numbered folders only."""
        return self.path / ".saman"

    @property
    def log(self) -> Path:
        """The audit log."""
        return self.own / "log"

    @property
    def staging(self) -> Path:
        """Versions on their way in."""
        return self.own / "staging"

    @property
    def trash(self) -> Path:
        """Versions on their way out."""
        return self.own / "trash"

    def version(self, number: int) -> Path:
        """The folder of a version."""
        return self.path / str(number)

    def format(self, number: int, name: str) -> Path:
        """The folder of a version in another format."""
        return self.formats(number) / name

    def formats(self, number: int) -> Path:
        """The folder of all converted files of a version."""
        return self.path / "formats" / str(number)

    def visible(self) -> list[int]:
        """Numbers with a folder, lowest first, whether or not they were published."""
        if not self.path.is_dir():
            return []
        numbers = (path.name for path in self.path.iterdir() if path.is_dir())
        return sorted(int(name) for name in numbers if name.isascii() and name.isdigit() and name == str(int(name)))


def model_folder(models_dir: Path, name: str) -> ModelFolder:
    """The folder of the model ``name``, whether or not it exists.

    Raises:
        UserError: The name is not a plain folder name, or the folder is a symbolic link.
    """
    if not is_name(name):
        allowed = "letters, digits, '.', '_' and '-', at most 64, the first a letter or digit"
        raise UserError(f"{name!r} cannot name a model", remedy=f"use {allowed}")
    folder = ModelFolder(models_dir.absolute(), name)
    for path in (folder.path, folder.own, folder.log, folder.staging, folder.trash):
        if path.is_symlink():
            problem = "this is a symbolic link; a model's files must stay in its folder"
            raise UserError(problem, where=str(path), remedy="replace it by a real folder")
    return folder


def find_model(models_dir: Path, name: str) -> ModelFolder:
    """The folder layout of a model in the store; raises ``UserError`` that lists the published models."""
    folder = model_folder(models_dir, name)
    if not folder.log.is_dir():
        names = [other.name for other in list_models(models_dir)]
        remedy = choices(name, names) if names else "saman models publish RUN publishes the first"
        raise UserError(f"no model is called {name!r} in {models_dir}", remedy=remedy)
    return folder


def list_models(models_dir: Path) -> list[ModelFolder]:
    """Every published model in the store, in the order of names."""
    if not models_dir.is_dir():
        return []
    folders = (ModelFolder(models_dir.absolute(), path.name) for path in models_dir.iterdir() if is_name(path.name))
    return sorted((folder for folder in folders if folder.log.is_dir()), key=lambda folder: folder.name)


def require_own_place(folder: ModelFolder, path: Path) -> None:
    """Raise ``UserError`` where a path leads out of a model's folder, by ``..`` or through a symbolic link."""
    inside = path.is_relative_to(folder.path) and ".." not in path.parts
    between = [place for place in path.parents if place.is_relative_to(folder.path)] if inside else []
    link = next((place for place in between if place.is_symlink()), None)
    if not inside or link is not None:
        problem = "this is a symbolic link" if link else f"this leads out of the folder of {folder.name}"
        remedy = "a model's files stay in its folder; find out who wrote it: saman models log, saman models verify"
        raise UserError(problem, where=str(link or path), remedy=remedy)


@dataclass(frozen=True)
class VersionSpec:
    """``NAME``, ``NAME:3`` or ``NAME:stable``, parsed."""

    name: str
    number: int | None = None
    label: str | None = None


def parse_spec(text: str) -> VersionSpec:
    """Parse ``NAME[:VERSION|:LABEL]`` into its place in the store's layout; raises ``UserError`` for any other text."""
    name, colon, rest = text.partition(":")
    if not is_name(name):
        raise UserError(f"{text!r} does not name a model", remedy="NAME, NAME:VERSION or NAME:LABEL")
    if not colon:
        return VersionSpec(name)
    if rest.isascii() and rest.isdigit() and int(rest) > 0:
        return VersionSpec(name, number=int(rest))
    return VersionSpec(name, label=check_label(rest))


def check_label(text: str) -> str:
    """Return ``text`` if it is a label that the store's layout allows; raises ``UserError`` otherwise."""
    if not is_label(text):
        remedy = "stable, canary, or lower-case letters, digits, '_' and '-', the first a letter"
        raise UserError(f"{text!r} is neither a version nor a label", remedy=remedy)
    return text


def check_relative_path(text: str, where: str) -> str:
    """Return ``text`` if it stays inside a version's folder; raises ``UserError`` otherwise."""
    path = PurePosixPath(text)
    if not text or path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text or str(path) != text:
        raise UserError(f"{text!r} leads out of the version's folder", where=where)
    return text
