"""Where things lie in a models folder, and what a person may call a model, a version or a label.

::

    models/models.config                   what TensorFlow Serving reads (registry/serving_config.py)
    models/policy.yaml                     the gates (configs/policy.py); models/<name>/policy.yaml goes before it
    models/<name>/<N>/                     a version: a SavedModel, visible by one rename, never changed
    models/<name>/<N>/assets.extra/        saman.json (the manifest), model.keras, validation.npz, warm-up requests
    models/<name>/formats/<N>/<format>/    a version converted to another format
    models/<name>/.saman/log/00000001.json every change ever, hash-chained; the one truth (registry/log.py)
    models/<name>/.saman/{staging,trash}/  what arrives and what leaves
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from saman.configs.errors import UserError, choices
from saman.configs.names import is_name

MANIFEST = "assets.extra/saman.json"
KERAS_FILE = "assets.extra/model.keras"
VALIDATION = "assets.extra/validation.npz"
WARMUP = "assets.extra/tf_serving_warmup_requests"
SIGNATURE = "assets.extra/saman.sig"

_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class ModelFolder:
    """The folder of one model's versions."""

    models_dir: Path
    name: str

    @property
    def path(self) -> Path:
        """What TensorFlow Serving calls the base path."""
        return self.models_dir / self.name

    @property
    def own(self) -> Path:
        """The registry's own files; TensorFlow Serving looks at numbers only."""
        return self.path / ".saman"

    @property
    def log(self) -> Path:
        """The audit log."""
        return self.own / "log"

    @property
    def staging(self) -> Path:
        """Versions that are being put together."""
        return self.own / "staging"

    @property
    def trash(self) -> Path:
        """Versions that are being removed."""
        return self.own / "trash"

    def version(self, number: int) -> Path:
        """The folder of a version."""
        return self.path / str(number)

    def format(self, number: int, name: str) -> Path:
        """The folder of a version in another format."""
        return self.path / "formats" / str(number) / name

    def visible(self) -> list[int]:
        """Numbers under which a folder can be seen, lowest first."""
        if not self.path.is_dir():
            return []
        numbers = (path.name for path in self.path.iterdir() if path.is_dir())
        return sorted(int(name) for name in numbers if name.isascii() and name.isdigit() and name == str(int(name)))


def model_folder(models_dir: Path, name: str) -> ModelFolder:
    """The folder of the model ``name``, whether or not it exists.

    Raises ``UserError`` for a name that is no plain folder name, or whose folder leads elsewhere.
    """
    if not is_name(name):
        allowed = "letters, digits, '.', '_' and '-', at most 64, the first a letter or digit"
        raise UserError(f"{name!r} cannot name a model", remedy=f"use {allowed}")
    folder = ModelFolder(models_dir.absolute(), name)
    for path in (folder.path, folder.own, folder.log, folder.staging, folder.trash):
        if path.is_symlink():
            problem = "this is a symbolic link, and a model's files may not leave its folder"
            raise UserError(problem, where=str(path), remedy="make it a real folder")
    return folder


def existing(models_dir: Path, name: str) -> ModelFolder:
    """The folder of a model that has been published; raises ``UserError`` naming those that have."""
    folder = model_folder(models_dir, name)
    if not folder.log.is_dir():
        names = [each.name for each in models(models_dir)]
        remedy = choices(name, names) if names else "saman models publish RUN makes the first"
        raise UserError(f"no model is called {name!r} in {models_dir}", remedy=remedy)
    return folder


def models(models_dir: Path) -> list[ModelFolder]:
    """Every model that has been published, by name."""
    if not models_dir.is_dir():
        return []
    folders = (ModelFolder(models_dir.absolute(), path.name) for path in models_dir.iterdir() if is_name(path.name))
    return sorted((one for one in folders if one.log.is_dir()), key=lambda one: one.name)


@dataclass(frozen=True)
class VersionSpec:
    """``NAME``, ``NAME:3`` or ``NAME:stable`` as a person writes it."""

    name: str
    number: int | None = None
    label: str | None = None


def parse_spec(text: str) -> VersionSpec:
    """What a person means by ``NAME[:VERSION|:LABEL]``; raises ``UserError`` for any other text."""
    name, colon, rest = text.partition(":")
    if not is_name(name):
        raise UserError(f"{text!r} does not name a model", remedy="NAME, NAME:VERSION or NAME:LABEL")
    if not colon:
        return VersionSpec(name)
    if rest.isascii() and rest.isdigit() and int(rest) > 0:
        return VersionSpec(name, number=int(rest))
    return VersionSpec(name, label=checked_label(rest))


def checked_label(text: str) -> str:
    """``text`` where it can be a label; raises ``UserError`` otherwise."""
    if not _LABEL.fullmatch(text):
        remedy = "stable, canary, or lower-case letters, digits, '_' and '-', the first a letter"
        raise UserError(f"{text!r} is neither a version nor a label", remedy=remedy)
    return text


def safe_relative(text: str, where: str) -> str:
    """A file's path inside a version; raises ``UserError`` where it would lead out."""
    path = PurePosixPath(text)
    if not text or path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text or str(path) != text:
        raise UserError(f"{text!r} would lead out of the version's folder", where=where)
    return text
