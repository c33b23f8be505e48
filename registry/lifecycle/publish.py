"""Makes a finished run's export the next version of a model: put together out of sight, visible by one rename.

1. The files of ``export/`` get a second name (a hard link; a copy across file systems) in ``.saman/staging/<token>/``,
   in the layout that TensorFlow Serving reads, with the manifest and the warm-up requests.
2. One entry of the audit log gives it its number (registry/log.py); another publisher in between means the next one.
3. The staged folder is renamed to that number. Should the process die before, the next command does it.
4. The files leave ``export/``: they have moved.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saman.configs.errors import UserError
from saman.configs.files import read_json, write_json
from saman.registry.evaluation.gates import PublishRefused, at_publish
from saman.registry.lifecycle import serving_config
from saman.registry.lifecycle.reconcile import awaited, settle
from saman.registry.lifecycle.warmup import warmup_file
from saman.registry.store import audit_log, disk, manifest
from saman.registry.store.audit_log import Entry
from saman.registry.store.layout import KERAS_FILE, MANIFEST, VALIDATION, WARMUP, ModelFolder, model_folder
from saman.registry.store.manifest import Manifest, RunRecord
from saman.registry.store.model_state import PRUNED, VersionState, fold
from saman.runs.folder import RunFolder

_WARMUP_EXAMPLES = 8
_STALE_SECONDS = 7 * 86400.0
_EXPORTED = {"model.keras": KERAS_FILE, "validation.npz": VALIDATION}


@dataclass(frozen=True)
class Version:
    """A version that can be seen."""

    model: str
    number: int
    path: Path
    new: bool = True  # False where the run had been published before

    @property
    def manifest(self) -> Manifest:
        """What ``assets.extra/saman.json`` holds."""
        return manifest.read(self.path)


def publish(
    run: RunFolder | Path,
    models_dir: Path,
    *,
    model: str | None = None,
    why: str = "",
    who: str | None = None,
) -> Version:
    """Make the export of ``run`` the next version of ``model`` (default: what the experiment says).

    A run whose export was published before gives that version again. Raises ``PublishRefused`` where ``publish.if``
    or a gate decides against it, ``UserError`` where there is nothing sound to publish, ``EnvironmentLack`` where the
    models folder cannot be written; in all these cases nothing has changed.
    """
    run = run if isinstance(run, RunFolder) else RunFolder.open(run)
    folder = model_folder(models_dir, _model_name(run) if model is None else model)
    before = _published_before(run, folder)
    if not (run.export / "saved_model").is_dir() and before is not None:
        return before
    exported = _checked_export(run)
    try:
        _condition_holds(run, exported)
        with disk.explained(folder.path, "the models folder"):
            return _publish(run, folder, exported, why=why, who=who or audit_log.me())
    except PublishRefused as refusal:
        with contextlib.suppress(OSError):
            run.append("not_published", "registry", model=folder.name, reason=refusal.problem)
        raise


def _publish(run: RunFolder, folder: ModelFolder, exported: Mapping[str, Any], *, why: str, who: str) -> Version:
    folder.staging.mkdir(parents=True, exist_ok=True)
    folder.log.mkdir(exist_ok=True)
    settle(folder, audit_log.read(folder.log))
    _sweep_staging(folder)
    staged = folder.staging / disk.token()
    try:
        return _numbered(run, folder, staged, _staged(run, folder, staged, exported, why=why, who=who), why, who)
    except FileNotFoundError:
        # Another publisher of the same run may have moved the files away meanwhile.
        other = _published_before(run, folder)
        if other is None:
            raise
        return other
    finally:
        if staged.name not in _awaited(folder):
            disk.remove_tree(staged)


def _awaited(folder: ModelFolder) -> set[str]:
    """Staged folders that the log knows as versions: never removed, for they may still have to be made visible."""
    return awaited(fold(folder.name, audit_log.read(folder.log)))


def _present(folder: ModelFolder) -> set[int]:
    return {one.number for one in fold(folder.name, audit_log.read(folder.log)).present()}


def _numbered(run: RunFolder, folder: ModelFolder, staged: Path, draft: Manifest, why: str, who: str) -> Version:
    """Give the staged version its number, make it visible, and have the run and models.config follow."""
    gates = at_publish(folder, draft, staged)
    new = True

    def next_number(entries: list[Entry]) -> tuple[str, Mapping[str, Any]] | None:
        nonlocal new
        if _same(folder, entries, draft) is not None:
            new = False
            return None
        number = max([fold(folder.name, entries).highest, *folder.visible()]) + 1
        final = draft.model_copy(update={"version": number, "gates": gates})
        write_json(staged / MANIFEST, final.to_json())
        disk.sync_folders(staged)
        disk.sync(folder.staging)
        sealed = disk.digest(staged / MANIFEST).sha256
        return "publish", {"version": number, "manifest": sealed, "staging": staged.name, "run": draft.run.id}

    entries = audit_log.change(folder.log, next_number, why=why, who=who)
    one = _same(folder, entries, draft)
    if one is None:  # somebody pruned it in this very moment
        raise UserError(f"the version was pruned as soon as it was there: saman models log {folder.name} tells by whom")
    settle(folder, entries)
    serving_config.refresh(folder.models_dir)
    if not folder.version(one.number).is_dir() and one.number in _present(folder):
        problem = f"version {one.number} is in the audit log, but its files are gone"
        raise UserError(problem, where=str(folder.path), remedy=f"saman models verify {folder.name}")
    _leave_export(run)
    if new:
        with contextlib.suppress(OSError):  # somebody else's run, or a full disk: the version is there all the same
            run.append("published", "registry", model=folder.name, version=one.number)
    return Version(folder.name, one.number, folder.version(one.number), new)


# ---- what is published -----------------------------------------------------------------------------------------


def _model_name(run: RunFolder) -> str:
    if run.is_script:
        problem = "a run of your own program does not say which model it trained"
        raise UserError(problem, where=str(run.path), remedy="--model NAME")
    wanted = run.experiment().publish
    if wanted is None:
        problem = "the experiment does not say under which model name to publish"
        raise UserError(problem, where=str(run.path), remedy="publish: {model: NAME}, or --model NAME")
    return wanted.model


def _published_before(run: RunFolder, folder: ModelFolder) -> Version | None:
    """The version that this run became under this name, where its files are kept."""
    if not folder.log.is_dir():
        return None
    state = fold(folder.name, audit_log.read(folder.log))
    mine = [one for one in state.present() if one.run == run.id]
    if not mine:
        return None
    number = mine[-1].number
    with contextlib.suppress(OSError):
        settle(folder, audit_log.read(folder.log))
    return Version(folder.name, number, folder.version(number), new=False)


def _checked_export(run: RunFolder) -> dict[str, Any]:
    """``export.json``, after a look at what must lie beside it."""
    export = run.export
    if not export.is_dir():
        state = run.state.value
        remedy = "saman resume continues an unfinished run" if state != "completed" else "export is made at its end"
        raise UserError(f"this run has exported nothing (it is {state})", where=str(run.path), remedy=remedy)
    if export.is_symlink():
        raise UserError("this is a symbolic link", where=str(export), remedy="a run's export is a real folder")
    for name in ("saved_model/saved_model.pb", "saved_model/variables/variables.index", "export.json"):
        if not (export / name).is_file():
            problem = "the export is incomplete: this file is missing"
            raise UserError(problem, where=str(export / name), remedy="export the model again")
    exported = read_json(export / "export.json")
    if not isinstance(exported, dict):
        raise UserError("this file is not JSON", where=str(export / "export.json"), remedy="export the model again")
    if not exported.get("checked"):
        problem = "the export was never compared with the trained model"
        raise UserError(problem, where=str(export / "export.json"), remedy="export the model again")
    if not _inputs(exported):
        problem = "the model has no serving signature, so no server could call it"
        remedy = "export it with a signature 'serving_default'"
        raise UserError(problem, where=str(export / "export.json"), remedy=remedy)
    return exported


def _inputs(exported: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs of the serving signature by name: ``{"dtype": …, "shape": […]}``."""
    signature = exported.get("signature")
    inputs = signature.get("inputs") if isinstance(signature, dict) else None
    return inputs if isinstance(inputs, dict) else {}


def _condition_holds(run: RunFolder, exported: Mapping[str, Any]) -> None:
    """Raises ``PublishRefused`` where the experiment's ``publish.if`` is not met."""
    wanted = None if run.is_script else run.experiment().publish
    if wanted is None or wanted.condition is None:
        return
    condition, metrics = wanted.condition, exported.get("metrics") or {}
    value = metrics.get(condition.metric)
    if condition.at_least is not None:
        bound, holds = f"at least {condition.at_least:g}", value is not None and value >= condition.at_least
    else:
        bound, holds = f"at most {condition.at_most:g}", value is not None and value <= (condition.at_most or 0.0)
    if holds:
        return
    problem = (
        f"not published: {condition.metric} is {'unknown' if value is None else f'{value:.4g}'}, but must be {bound}"
    )
    raise PublishRefused(problem, where=str(run.path), remedy="publish.if of the experiment decides")


# ---- putting it together ---------------------------------------------------------------------------------------


def _staged(
    run: RunFolder, folder: ModelFolder, staged: Path, exported: Mapping[str, Any], *, why: str, who: str
) -> Manifest:
    """Give the files their places in ``staged`` and describe them; the number is still open."""
    saved_model = run.export / "saved_model"
    places = {path.as_posix(): saved_model / path for path in disk.regular_files(saved_model)}
    places |= {to: run.export / name for name, to in _EXPORTED.items() if (run.export / name).is_file()}
    for relative, source in places.items():
        target = staged / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        disk.take(source, target)
    (staged / "assets.extra").mkdir(exist_ok=True)
    warm = _warmup(folder.name, exported, staged)
    if warm:
        (staged / WARMUP).write_bytes(warm)
        disk.sync(staged / WARMUP)
    return Manifest(
        model=folder.name,
        version=0,
        published_at=round(time.time(), 3),
        published_by=who,
        why=why,
        files=manifest.file_records(staged),
        fingerprint=manifest.fingerprint(staged),
        run=run_record(run),
        **_from_export(exported),
    )


_NAMED = ("signature", "metrics", "data", "statistics", "versions")


def _from_export(exported: Mapping[str, Any]) -> dict[str, Any]:
    known = {name: exported[name] for name in _NAMED if exported.get(name) is not None}
    numbers = {name: value for name, value in known.pop("metrics", {}).items() if isinstance(value, (int, float))}
    rest = {name: value for name, value in exported.items() if name not in _NAMED}
    return {**known, "metrics": numbers, "export": rest}


def _warmup(model: str, exported: Mapping[str, Any], staged: Path) -> bytes:
    """Warm-up requests of real examples; nothing for a model of several inputs or without a stored sample."""
    inputs = _inputs(exported)
    if len(inputs) != 1 or not (staged / VALIDATION).is_file():
        return b""
    [(name, about)] = inputs.items()
    try:
        with np.load(staged / VALIDATION, allow_pickle=False) as stored:
            sample = stored[name][:_WARMUP_EXAMPLES].astype(about["dtype"], copy=False)
        return warmup_file(model, exported["signature"].get("name", "serving_default"), name, sample)
    except (KeyError, TypeError, ValueError):
        return b""


def run_record(run: RunFolder) -> RunRecord:
    """What the run folder tells of the training."""
    experiment = None if run.is_script else run.experiment()
    attempts = run.attempts()
    records = [read_json(attempts[-1].rank_record(rank)) for rank in attempts[-1].ranks()] if attempts else []
    nodes = {str(one["node"]) for one in records if isinstance(one, dict) and one.get("node")}
    provenance = read_json(attempts[-1].provenance) if attempts else None
    made_by = {key: value for key, value in (provenance or {}).items() if key != "environment"}
    return RunRecord(
        id=run.id,
        folder=str(run.path),
        host=audit_log.me().rpartition("@")[2],
        experiment=experiment.resolved() if experiment else None,
        experiment_digest=experiment.digest() if experiment else None,
        strategy=experiment.train.strategy if experiment else None,
        ranks=experiment.resources.ranks if experiment else None,
        seed=experiment.train.seed if experiment else None,
        attempts=len(attempts),
        hosts=sorted(nodes),
        provenance=made_by,
    )


def _same(folder: ModelFolder, entries: list[Entry], draft: Manifest) -> VersionState | None:
    """The version that holds exactly these files from this run, if there is one already."""
    for one in reversed(fold(folder.name, entries).present()):
        if one.run == draft.run.id and (found := _files_of(folder, one)) is not None and found == _plain(draft):
            return one
    return None


def _plain(draft: Manifest) -> dict[str, str]:
    return {path: record.sha256 for path, record in draft.files.items()}


def _files_of(folder: ModelFolder, one: VersionState) -> dict[str, str] | None:
    for place in (folder.version(one.number), folder.staging / one.staging):
        found = read_json(place / MANIFEST)
        if isinstance(found, dict) and one.status != PRUNED:
            with contextlib.suppress(KeyError, TypeError, AttributeError):
                return {path: record["sha256"] for path, record in found["files"].items()}
    return None


def _leave_export(run: RunFolder) -> None:
    """The files have moved; ``export.json`` stays with the run as its record."""
    with contextlib.suppress(OSError):  # somebody else's run: their files stay with them
        disk.remove_tree(run.export / "saved_model")
        for name in _EXPORTED:
            (run.export / name).unlink(missing_ok=True)


def _sweep_staging(folder: ModelFolder) -> None:
    """Remove what publishers left that died long ago and never entered the log."""
    known = _awaited(folder)
    for left in folder.staging.iterdir():
        with contextlib.suppress(OSError):
            if left.name not in known and time.time() - left.stat().st_mtime > _STALE_SECONDS:
                disk.remove_tree(left)
