"""Publishes a finished run's export as the next version of a model.

1. Files of ``export/`` are hard-linked (copied across file systems) into ``.saman/staging/<token>/`` in TensorFlow
   Serving's layout, with the manifest and warm-up requests.
2. An entry of the audit log gives the version its number (store/audit_log.py); after a lost race, the next number.
3. The staged folder is renamed to that number. If the process dies before, the next change does it.
4. The files are removed from ``export/``.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import UserError
from saman.registry.evaluation.gates import PublishRefusal, check_at_publication
from saman.registry.lifecycle import serving_config
from saman.registry.lifecycle.reconcile import awaited, reconcile
from saman.registry.lifecycle.run_export import check_condition, model_name, read_export
from saman.registry.lifecycle.staging import clear_export, stage_version, sweep_staging
from saman.registry.store import audit_log, manifest
from saman.registry.store.audit_decisions import AuditDecision, PublishDecision
from saman.registry.store.audit_entry import Entry
from saman.registry.store.layout import MANIFEST, ModelFolder, model_folder
from saman.registry.store.manifest import Manifest
from saman.registry.store.model_state import ModelState, VersionState, read_model, replay
from saman.runs.events import REGISTRY, EventKind
from saman.runs.files import disk
from saman.runs.files.whole import read_json, write_json
from saman.runs.files.write_errors import MODELS_OPTION, explain_write_errors
from saman.runs.folder import RunFolder
from saman.runs.records.export import ExportRecord
from saman.runs.trust.run_trust import require_trusted


@dataclass(frozen=True)
class PublishedVersion:
    """A visible version. ``new`` is false where the run had been published before."""

    model: str
    number: int
    path: Path
    new: bool = True

    @property
    def manifest(self) -> Manifest:
        """The content of ``assets.extra/saman.json`` as it was published."""
        return manifest.read(self.path)


def publish(
    run: RunFolder | Path, models_dir: Path, *, model: str | None = None, why: str = "", who: str | None = None
) -> PublishedVersion:
    """Publish the export of a run; a run that was published before returns that version again.

    Args:
        run: The run.
        models_dir: The models folder; it is made where it is missing.
        model: The model's name; default: ``publish.model`` of the experiment.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.

    Raises:
        PublishRefusal: ``publish.if`` or a gate refuses the version. As after every error, nothing has changed.
        UserError: The run has no sound export, or is another user's.
        EnvironmentLack: The models folder is not writable.
    """
    run = run if isinstance(run, RunFolder) else RunFolder.open(run)
    folder = model_folder(models_dir, model_name(run) if model is None else model)
    before = _find_publication(run, folder)
    if not run.exported.saved_model.is_dir() and before is not None:
        return before
    require_trusted(run, "publish")
    exported = read_export(run)
    try:
        check_condition(run, exported)
        with explain_write_errors(folder.path, "the models folder", MODELS_OPTION):
            return _publish(run, folder, exported, why=why, who=who or audit_log.current_user())
    except PublishRefusal as refusal:
        with contextlib.suppress(OSError):
            run.append(EventKind.NOT_PUBLISHED, REGISTRY, model=folder.name, reason=refusal.problem)
        raise


def _publish(run: RunFolder, folder: ModelFolder, exported: ExportRecord, *, why: str, who: str) -> PublishedVersion:
    folder.staging.mkdir(parents=True, exist_ok=True)
    folder.log.mkdir(exist_ok=True)
    reconcile(folder, audit_log.read(folder.log))
    sweep_staging(folder)
    staged = folder.staging / disk.unique_name()
    try:
        draft = stage_version(run, folder, staged, exported, why=why, who=who)
        return _enter(run, folder, staged, draft, why, who)
    except FileNotFoundError:
        # Another publisher of the same run may have removed the exported files meanwhile.
        other = _find_publication(run, folder)
        if other is None:
            raise
        return other
    finally:
        if staged.name not in awaited(read_model(folder)):
            disk.remove_tree(staged)


def _enter(run: RunFolder, folder: ModelFolder, staged: Path, draft: Manifest, why: str, who: str) -> PublishedVersion:
    """Number the staged version, make it visible, and update the run and ``models.config``."""
    gates = [gate.record() for gate in check_at_publication(folder, draft, staged)]
    new = True

    def decide(entries: list[Entry]) -> AuditDecision | None:
        nonlocal new
        state = replay(folder.name, entries)
        new = _find_same_files(folder, state, draft) is None
        return _number(folder, state, staged, draft.model_copy(update={"gates": gates})) if new else None

    entries = audit_log.append_change(folder.log, decide, why=why, who=who)
    version = _find_same_files(folder, replay(folder.name, entries), draft)
    if version is None:  # pruned between the entry and this line
        remedy = f"saman models log {folder.name} shows the author"
        raise UserError("the version was pruned as soon as it was published", remedy=remedy)
    reconcile(folder, entries)
    serving_config.refresh(folder.models_dir)
    _require_visible(folder, version.number)
    clear_export(run)
    if new:
        with contextlib.suppress(OSError):  # another user's run, or a full disk: the version exists all the same
            run.append(EventKind.PUBLISHED, REGISTRY, model=folder.name, version=version.number)
    return PublishedVersion(folder.name, version.number, folder.version(version.number), new)


def _number(folder: ModelFolder, state: ModelState, staged: Path, draft: Manifest) -> PublishDecision:
    """Write the manifest with the next free number, and the decision to publish it."""
    number = max([state.highest, *folder.visible()]) + 1
    write_json(staged / MANIFEST, draft.model_copy(update={"version": number}).to_json())
    disk.sync_folders(staged)
    disk.sync_path(folder.staging)
    disk.sync_names(folder.own, top=folder.models_dir.parent)
    digest = disk.digest_file(staged / MANIFEST).sha256
    return PublishDecision(number, digest, staged.name, draft.run.id)


def _require_visible(folder: ModelFolder, number: int) -> None:
    present = {version.number for version in read_model(folder).present()}
    if number in present and not folder.version(number).is_dir():
        problem = f"the audit log names version {number}, but its files are missing"
        raise UserError(problem, where=str(folder.path), remedy=f"saman models verify {folder.name}")


def _find_publication(run: RunFolder, folder: ModelFolder) -> PublishedVersion | None:
    """The newest version of this run under this name, if its files are kept."""
    if not folder.log.is_dir():
        return None
    versions = [version for version in read_model(folder).present() if version.run == run.id]
    if not versions:
        return None
    with contextlib.suppress(OSError):
        reconcile(folder, audit_log.read(folder.log))
    number = versions[-1].number
    return PublishedVersion(folder.name, number, folder.version(number), new=False)


def _find_same_files(folder: ModelFolder, state: ModelState, draft: Manifest) -> VersionState | None:
    """The version of this run with exactly these files, if any."""
    digests = {path: record.sha256 for path, record in draft.files.items()}
    for version in reversed(state.present()):
        if version.run == draft.run.id and _file_digests(folder, version) == digests:
            return version
    return None


def _file_digests(folder: ModelFolder, version: VersionState) -> dict[str, str] | None:
    for place in (folder.version(version.number), folder.staging / version.staging):
        found = read_json(place / MANIFEST)
        if isinstance(found, dict):
            with contextlib.suppress(KeyError, TypeError, AttributeError):
                return {path: record["sha256"] for path, record in found["files"].items()}
    return None
