"""Gives labels to versions and takes them away; ``stable`` must pass the gates."""

from __future__ import annotations

from pathlib import Path

from saman.configs.errors import UserError
from saman.registry.evaluation.gates import GateResult, check_at_promotion
from saman.registry.lifecycle.changes import Change, apply_change, choose_version, require_offered
from saman.registry.lifecycle.reconcile import try_reconcile
from saman.registry.lifecycle.verify import require_sound
from saman.registry.store.audit_decisions import AuditDecision, PromoteDecision, UnlabelDecision
from saman.registry.store.layout import ModelFolder, check_label, find_model, parse_spec
from saman.registry.store.model_state import PREVIOUS, STABLE, ModelState, read_model


def promote(models_dir: Path, spec: str, label: str = STABLE, *, why: str = "", who: str | None = None) -> Change:
    """Record a label of a version, if its policy and gates allow it.

    Args:
        models_dir: The models folder.
        spec: ``NAME``, ``NAME:VERSION`` or ``NAME:LABEL``; a name alone means the newest version.
        label: The label; ``stable`` must pass the gates of the policy.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.

    Raises:
        UserError: There is no such version, or it is retired or damaged.
        PublishRefusal: A gate refuses the version.
    """
    if check_label(label) == PREVIOUS:
        raise UserError(f"the label {PREVIOUS!r} follows from the history of stable", remedy="saman models rollback")
    folder = find_model(models_dir, parse_spec(spec).name)
    number = choose_version(try_reconcile(folder), spec).number
    require_sound(folder, number)
    while True:
        try:
            return _promote(folder, number, label, why, who)
        except _StableChange:
            continue  # the gates compared with a version that is no longer stable


class _StableChange(Exception):  # noqa: N818  (a signal between two functions of this file)
    """Another process promoted a version while the gates ran."""


def _promote(folder: ModelFolder, number: int, label: str, why: str, who: str | None) -> Change:
    stable = read_model(folder).assigned.get(STABLE)
    gates: list[GateResult] = check_at_promotion(folder, number, label)

    def decide(state: ModelState) -> AuditDecision | None:
        require_offered(state, number)
        if gates and state.assigned.get(STABLE) != stable:
            raise _StableChange
        if state.assigned.get(label) == number:
            return None
        return PromoteDecision(label, state.assigned.get(label), number, [gate.record() for gate in gates])

    return apply_change(folder, decide, why, who)


def unlabel(models_dir: Path, name: str, label: str, *, why: str = "", who: str | None = None) -> Change:
    """Record that a label is taken away from the version that has it.

    Args:
        models_dir: The models folder.
        name: The model's name.
        label: The label; ``previous`` cannot be taken away.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.

    Raises:
        UserError: No version has the label, or it is ``previous``.
    """

    def decide(state: ModelState) -> AuditDecision:
        if label == PREVIOUS:
            raise UserError(f"the label {PREVIOUS!r} follows from the history of stable")
        return UnlabelDecision(label, state.labelled(label).number)

    return apply_change(find_model(models_dir, name), decide, why, who)
