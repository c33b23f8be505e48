"""Finds every way in which versions and their audit log are not what was published."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import UserError
from saman.registry.lifecycle import serving_config
from saman.registry.store import audit_log, disk, manifest
from saman.registry.store.layout import MANIFEST, ModelFolder, existing, models, parse_spec
from saman.registry.store.manifest import UNCOVERED, FileRecord
from saman.registry.store.model_state import PRUNED, PUBLISHED, ModelState, VersionState, fold
from saman.registry.store.policies import policy_of


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was published. ``version`` is 0 for what concerns the whole model."""

    model: str
    version: int
    path: str
    problem: str

    def __str__(self) -> str:
        place = f"{self.model} version {self.version}" if self.version else self.model
        return f"{place}: {self.path}: {self.problem}" if self.path else f"{place}: {self.problem}"


def verify(models_dir: Path, spec: str | None = None) -> list[Damage]:
    """Everything found in one version, one model or (``None``) all of them; empty where all is sound.

    Reads every byte of every version. Changes nothing.
    """
    if spec is None:
        found = [one for folder in models(models_dir) for one in _model(folder)]
        return found + _config(models_dir)
    parsed = parse_spec(spec)
    folder = existing(models_dir, parsed.name)
    if parsed.number is None and parsed.label is None:
        return _model(folder)
    try:
        state = fold(folder.name, audit_log.read(folder.log))
    except UserError:
        return _model(folder)
    one = state.version(parsed.number) if parsed.number is not None else state.labelled(parsed.label or "")
    return [*_log(folder), *_version(folder, one)]


def sound(folder: ModelFolder, number: int) -> None:
    """Raises one ``UserError`` with everything that is wrong with a version or its log."""
    state = fold(folder.name, audit_log.read(folder.log))
    found = [*_log(folder), *_version(folder, state.version(number))]
    if found:
        errors = [UserError(str(one)) for one in found]
        raise UserError(errors[0].problem, remedy="saman models verify", others=errors[1:])


def file_findings(folder: ModelFolder, number: int) -> list[Damage]:
    """What is wrong with a version's files, its signature aside."""
    state = fold(folder.name, audit_log.read(folder.log))
    return [one for one in _version(folder, state.version(number)) if one.path != "signature"]


def _log(folder: ModelFolder) -> list[Damage]:
    return [Damage(folder.name, 0, "audit log", problem) for problem in audit_log.damage(folder.log)]


def _model(folder: ModelFolder) -> list[Damage]:
    found = _log(folder)
    try:
        state = fold(folder.name, audit_log.read(folder.log))
    except UserError as error:
        return found or [Damage(folder.name, 0, "audit log", error.problem)]
    for one in state.present():
        found += _version(folder, one)
    return found + list(_strangers(folder, state))


def _strangers(folder: ModelFolder, state: ModelState) -> Iterator[Damage]:
    """Folders that a server would take for versions, but that were never published, or were pruned."""
    for number in folder.visible():
        one = state.versions.get(number)
        if one is None:
            yield Damage(folder.name, number, "", "this folder was never published here")
        elif one.status == PRUNED:
            yield Damage(folder.name, number, "", "this version was pruned, but a folder is there")


def _version(folder: ModelFolder, one: VersionState) -> Iterator[Damage]:
    path = folder.version(one.number)

    def found(name: str, problem: str) -> Damage:
        return Damage(folder.name, one.number, name, problem)

    if path.is_symlink() or not path.is_dir():
        waiting = one.status == PUBLISHED and (folder.staging / one.staging).is_dir()
        yield found("", "it was published, but is not visible yet" if waiting else "its folder is missing")
        return
    problem = _manifest_problem(path, one)
    if problem:
        yield found(MANIFEST, problem)
    try:
        about = manifest.read(path)
    except UserError as error:
        if not problem:
            yield found(MANIFEST, error.problem)
        return
    for name, trouble in file_problems(path, about.files):
        yield found(name, trouble)
    for name, trouble in _signature_problems(folder, path):
        yield found(name, trouble)
    for name, facts in one.formats.items():
        for file, trouble in _format_problems(folder.format(one.number, name), facts):
            yield found(f"{name}: {file}" if file else name, trouble)


def _manifest_problem(path: Path, one: VersionState) -> str:
    file = path / MANIFEST
    if not file.is_file() or file.is_symlink():
        return "the manifest is missing"
    if disk.digest(file).sha256 == one.manifest:
        return ""
    try:
        about = manifest.read(path)
    except UserError as error:
        return error.problem
    if about.version != one.number:
        return f"this is the manifest of {about.model} version {about.version}"
    return "this is not the manifest that was published"


def file_problems(path: Path, expected: dict[str, FileRecord]) -> Iterator[tuple[str, str]]:
    """Files of a folder that are missing, damaged, or not in the manifest, and what is wrong with each."""
    for name, record in sorted(expected.items()):
        yield from ((name, problem) for problem in _file_problem(path / name, record))
    known = set(expected) | UNCOVERED
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if name not in known and not stat.S_ISDIR(file.lstat().st_mode):
            yield name, "this file was added"


def _file_problem(file: Path, record: FileRecord) -> Iterable[str]:
    try:
        mode = file.lstat().st_mode
    except OSError:
        return ["the file is missing"]
    if not stat.S_ISREG(mode):
        return ["it is no longer a plain file"]
    try:
        size = file.stat().st_size
        if size != record.bytes:
            return [f"it has {size} bytes instead of {record.bytes}"]
        return [] if disk.digest(file).sha256 == record.sha256 else ["its content has changed"]
    except OSError as error:
        return [f"it cannot be read: {error.strerror}"]


def _format_problems(path: Path, facts: dict[str, object]) -> Iterator[tuple[str, str]]:
    if not path.is_dir():
        yield "", "its folder is missing"
        return
    file = path / "saman.json"
    if not file.is_file() or disk.digest(file).sha256 != facts.get("manifest"):
        yield "saman.json", "this is not the record that was written at the conversion"
        return
    from saman.configs.files import read_json

    about = read_json(file) or {}
    records = {name: FileRecord.model_validate(record) for name, record in about.get("files", {}).items()}
    yield from ((name, problem) for name, problem in file_problems(path, records) if name != "saman.json")


def _signature_problems(folder: ModelFolder, path: Path) -> Iterator[tuple[str, str]]:
    policy = policy_of(folder)
    from saman.registry.store.signing import signature_problem

    problem = signature_problem(folder, path, policy)
    if problem:
        yield "signature", problem


def _config(models_dir: Path) -> list[Damage]:
    file = models_dir / serving_config.FILE
    try:
        expected = serving_config.current(models_dir)
    except UserError:
        return []  # a damaged log has been reported
    if not file.is_file():
        return [Damage(serving_config.FILE, 0, "", "the file is missing")] if models(models_dir) else []
    if file.read_text(encoding="utf-8", errors="replace") != expected:
        return [Damage(serving_config.FILE, 0, "", "it does not follow the audit logs; saman models config mends it")]
    return []
