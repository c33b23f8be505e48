"""Finds every difference between the published versions, their audit logs, and the files on disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from saman.configs.errors import UserError
from saman.registry.lifecycle import serving_config
from saman.registry.lifecycle.damage import Damage, DamageKind, FileDamage, find_changed_files
from saman.registry.lifecycle.reconcile import is_in_staging
from saman.registry.store import manifest
from saman.registry.store.layout import (
    MANIFEST,
    ModelFolder,
    check_relative_path,
    find_model,
    list_models,
    parse_spec,
)
from saman.registry.store.manifest import FileRecord, Manifest
from saman.registry.store.model_state import FormatRecord, ModelState, VersionState, VersionStatus, read_model
from saman.registry.store.policies import read_policy
from saman.registry.store.signing import signature_problem
from saman.registry.store.tampering import find_tampering
from saman.runs.files import disk
from saman.runs.files.whole import read_json


def verify(models_dir: Path, spec: str | None = None) -> list[Damage]:
    """Find all damage. Reads every byte of every version; writes nothing.

    Args:
        models_dir: The models folder.
        spec: A version, a model, or ``None`` for all models and ``models.config``.
    """
    if spec is None:
        found = [damage for folder in list_models(models_dir) for damage in _check_readable_model(folder)]
        return found + _check_serving_config(models_dir)
    parsed = parse_spec(spec)
    folder = find_model(models_dir, parsed.name)
    if parsed.number is None and parsed.label is None:
        return _check_readable_model(folder)
    try:
        state = read_model(folder)
    except UserError:
        return _check_readable_model(folder)
    return [*_check_log(folder), *_check_version(folder, state.find(parsed))]


def require_sound(folder: ModelFolder, number: int, *, reads_files: bool = True) -> None:
    """Raise a ``UserError`` with all mistakes of the policy, else with all damage of a version and its log.

    Args:
        folder: The model.
        number: The version.
        reads_files: Whether to read the model's files; without, the manifest, its signature and the log are checked.
    """
    read_policy(folder)
    version = read_model(folder).version(number)
    found = [*_check_log(folder), *_check_version(folder, version, reads_files=reads_files)]
    if found:
        errors = [UserError(str(damage)) for damage in found]
        raise UserError(errors[0].problem, remedy="saman models verify", others=errors[1:])


def find_file_damage(folder: ModelFolder, number: int) -> list[Damage]:
    """All damage of a version, except of its signature."""
    version = read_model(folder).version(number)
    return [damage for damage in _check_version(folder, version) if damage.kind is not DamageKind.SIGNATURE]


def _check_log(folder: ModelFolder) -> list[Damage]:
    problems = find_tampering(folder.log)
    return [Damage(folder.name, 0, "audit log", problem, DamageKind.AUDIT_LOG) for problem in problems]


def _check_readable_model(folder: ModelFolder) -> list[Damage]:
    """All damage of a model; a file that cannot be read is damage, and does not hide that of other models."""
    try:
        return _check_model(folder)
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else str(folder.path)
        problem = f"it cannot be read: {error.strerror}"
        return [Damage(folder.name, 0, place, problem, DamageKind.UNREADABLE_FILE)]


def _check_model(folder: ModelFolder) -> list[Damage]:
    found = _check_log(folder)
    try:
        state = read_model(folder)
    except UserError as error:
        return found or [Damage(folder.name, 0, "audit log", error.problem, DamageKind.AUDIT_LOG)]
    for version in state.present():
        found += _check_version(folder, version)
    return found + list(_find_unpublished(folder, state))


def _find_unpublished(folder: ModelFolder, state: ModelState) -> Iterator[Damage]:
    """Numbered folders that a server would load, but that are not published."""
    for number in folder.visible():
        version = state.versions.get(number)
        if version is None:
            problem = "this folder was never published here"
            yield Damage(folder.name, number, "", problem, DamageKind.UNKNOWN_FOLDER)
        elif version.status is VersionStatus.PRUNED:
            problem = "this version was pruned, but its folder exists; saman models reconcile removes it"
            yield Damage(folder.name, number, "", problem, DamageKind.INTERRUPTED_REMOVAL)


def _check_version(folder: ModelFolder, version: VersionState, *, reads_files: bool = True) -> Iterator[Damage]:
    path = folder.version(version.number)
    if path.is_symlink() or not path.is_dir():
        yield _missing_folder(folder, version)
        return
    about, found = _read_manifest(folder, version)
    if about is not None:
        found += find_changed_files(path, about.files) if reads_files else []
        found += _check_signature(folder, version.number)
        for record in version.formats.values() if reads_files else ():
            found += _check_format(folder, record)
    yield from (damage.of(folder.name, version.number) for damage in found)


def _check_signature(folder: ModelFolder, number: int) -> Iterator[FileDamage]:
    try:
        policy = read_policy(folder)
    except UserError as error:
        yield FileDamage("policy.yaml", error.one_line(), DamageKind.POLICY)
        return
    if problem := signature_problem(folder, number, policy):
        yield FileDamage("signature", problem, DamageKind.SIGNATURE)


def _missing_folder(folder: ModelFolder, version: VersionState) -> Damage:
    if is_in_staging(folder, version):
        problem = "its arrival was interrupted; saman models reconcile completes it"
        return Damage(folder.name, version.number, "", problem, DamageKind.INTERRUPTED_ARRIVAL)
    return Damage(folder.name, version.number, "", "its folder is missing", DamageKind.MISSING_FOLDER)


def _read_manifest(folder: ModelFolder, version: VersionState) -> tuple[Manifest | None, list[FileDamage]]:
    """The manifest, as far as it is readable, and its damage."""
    path = folder.version(version.number)
    about, problem, file = None, "", path / MANIFEST
    try:
        about = manifest.read(path)
    except UserError as error:
        problem = error.problem
    if not file.is_file() or file.is_symlink():
        problem = "the manifest is missing"
    elif about is not None and (about.model, about.version) != (folder.name, version.number):
        problem = f"this is the manifest of {about.model} version {about.version}"
    elif about is not None and disk.digest_file(file).sha256 != version.manifest:
        problem = "this is not the manifest that was published"
    return about, [FileDamage(MANIFEST, problem, DamageKind.MANIFEST)] if problem else []


def _check_format(folder: ModelFolder, record: FormatRecord) -> Iterator[FileDamage]:
    """Damage of a version's converted files; the paths begin with the format's name."""
    path, name = folder.format(record.version, record.format), record.format
    if not path.is_dir():
        yield FileDamage(name, "its folder is missing", DamageKind.MISSING_FOLDER)
        return
    file = path / "saman.json"
    if not file.is_file() or disk.digest_file(file).sha256 != record.manifest:
        problem = "this is not the record that the conversion wrote"
        yield FileDamage(f"{name}: saman.json", problem, DamageKind.MANIFEST)
        return
    files = _recorded_files(file)
    if files is None:
        yield FileDamage(f"{name}: saman.json", "this is no record of a conversion", DamageKind.MANIFEST)
        return
    for damage in find_changed_files(path, files):
        if damage.path != "saman.json":
            yield FileDamage(f"{name}: {damage.path}", damage.problem, damage.kind)


def _recorded_files(file: Path) -> dict[str, FileRecord] | None:
    about = read_json(file)
    files = about.get("files") if isinstance(about, dict) else None
    if not isinstance(files, dict):
        return None
    try:
        return {check_relative_path(path, str(file)): FileRecord.model_validate(it) for path, it in files.items()}
    except (ValidationError, UserError):
        return None


def _check_serving_config(models_dir: Path) -> list[Damage]:
    file = models_dir / serving_config.FILE
    try:
        sound = serving_config.is_sound(models_dir)
    except UserError:
        return []  # a damaged log is reported for its model
    if sound or not list_models(models_dir):
        return []
    problem = "it does not follow the audit logs" if file.is_file() else "the file is missing"
    remedy = "saman models reconcile rewrites it"
    return [Damage(serving_config.FILE, 0, "", f"{problem}; {remedy}", DamageKind.SERVING_CONFIG)]
