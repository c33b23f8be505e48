"""Retires versions (their files stay) and prunes versions (their files go)."""

from __future__ import annotations

import time
from pathlib import Path

from saman.configs.errors import UserError
from saman.registry.lifecycle.changes import Change, apply_change, require_number
from saman.registry.lifecycle.reconcile import try_reconcile
from saman.registry.store.audit_decisions import AuditDecision, PruneDecision, RetireDecision
from saman.registry.store.layout import ModelFolder, VersionSpec, find_model, parse_spec
from saman.registry.store.model_state import KEPT, PREVIOUS, ModelState, VersionStatus, read_model
from saman.registry.store.policies import read_policy


def _require_unlabelled(state: ModelState, number: int) -> None:
    """Raise ``UserError`` for a labelled version."""
    if labels := state.labels_of(number):
        remedy = "promote another version, or saman models unlabel, first"
        if labels == [PREVIOUS]:
            remedy = "a rollback needs it until two later versions have been stable"
        raise UserError(f"version {number} of {state.name} is in use: {', '.join(labels)}", remedy=remedy)


def retire(models_dir: Path, spec: str, *, why: str = "", who: str | None = None) -> Change:
    """Stop offering a version and keep its files.

    Args:
        models_dir: The models folder.
        spec: ``NAME:VERSION``.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.

    Raises:
        UserError: The version has a label, or does not exist.
    """
    folder = find_model(models_dir, parse_spec(spec).name)
    number = require_number(spec)

    def decide(state: ModelState) -> AuditDecision | None:
        if state.version(number).status is VersionStatus.RETIRED:
            return None
        _require_unlabelled(state, number)
        return RetireDecision(number)

    return apply_change(folder, decide, why, who)


def choose_prunable(folder: ModelFolder, state: ModelState, keep: int | None = None) -> list[int]:
    """Versions outside the keep policy: unlabelled, old enough, and not among the newest.

    Args:
        folder: The model.
        state: Its state.
        keep: Number of newest versions to keep; ``None`` for the policy's number.
    """
    policy = read_policy(folder).keep
    newest = policy.newest if keep is None else keep
    young = time.time() - policy.days * 86400
    unlabelled = [version for version in state.present() if not state.labels_of(version.number)]
    kept = {version.number for version in state.present()[-newest:]} if newest else set()
    old = [version for version in unlabelled if not policy.days or version.time < young]
    return [version.number for version in old if version.number not in kept]


def prune(
    models_dir: Path, spec: str, keep: int | None = None, *, why: str = "", who: str | None = None, act: bool = True
) -> list[int]:
    """Remove versions; a labelled version is never removed.

    Args:
        models_dir: The models folder.
        spec: ``NAME:VERSION`` removes that version, ``NAME`` every version outside the keep policy.
        keep: How many of the newest versions stay; default: the policy.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.
        act: Remove them. Otherwise nothing is written.

    Returns:
        The numbers of the removed versions, or of those that would be removed.

    Raises:
        UserError: The version is labelled or does not exist.
    """
    parsed = parse_spec(spec)
    folder = find_model(models_dir, parsed.name)
    if keep is not None and keep < 0:
        raise UserError(f"cannot keep {keep} versions", where="--keep", remedy="0 or more")
    state = try_reconcile(folder) if act else read_model(folder)
    by_number = parsed != VersionSpec(parsed.name)
    if by_number:
        number = require_number(spec)
        if number not in state.versions:
            state.version(number)  # raises, with the numbers that exist
        _require_unlabelled(state, number)
    numbers = [number] if by_number else choose_prunable(folder, state, keep)
    if not act:
        return numbers
    return [number for number in numbers if _prune_version(folder, number, keep, by_number, why, who)]


def _prune_version(
    folder: ModelFolder, number: int, keep: int | None, by_number: bool, why: str, who: str | None
) -> bool:
    def decide(state: ModelState) -> AuditDecision | None:
        if state.versions[number].status not in KEPT:
            return None
        if by_number:
            _require_unlabelled(state, number)
        elif number not in choose_prunable(folder, state, keep):
            return None  # since the choice it received a label, or its successors were pruned
        return PruneDecision(number)

    return apply_change(folder, decide, why, who).entry is not None
