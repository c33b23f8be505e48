"""The life of a version after it was published: approved, promoted, rolled back, retired, pruned.

Each change is one entry of the audit log (registry/log.py), decided on the state that the entry follows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.registry.lifecycle import serving_config
from saman.registry.lifecycle.reconcile import look, settle
from saman.registry.store import audit_log, disk
from saman.registry.store.audit_log import Entry
from saman.registry.store.layout import ModelFolder, checked_label, existing, parse_spec
from saman.registry.store.model_state import PREVIOUS, PUBLISHED, RETIRED, STABLE, ModelState, VersionState, fold
from saman.registry.store.policies import policy_of


@dataclass(frozen=True)
class Change:
    """What was done: the entry, or ``None`` where all was so already, and the state after it."""

    entry: Entry | None
    state: ModelState


Decide = Callable[[ModelState], tuple[str, Mapping[str, Any]] | None]


def _change(folder: ModelFolder, decide: Decide, why: str, who: str | None) -> Change:
    """Append what ``decide`` makes of the state, and have folders and models.config follow."""
    made = False

    def on_entries(entries: list[Entry]) -> tuple[str, Mapping[str, Any]] | None:
        nonlocal made
        decided = decide(fold(folder.name, entries))
        made = decided is not None
        return decided

    with disk.explained(folder.path, "the models folder"):
        settle_first(folder)
        entries = audit_log.change(folder.log, on_entries, why=why, who=who or audit_log.me())
        state = settle(folder, entries)
        serving_config.refresh(folder.models_dir)
    return Change(entries[-1] if made else None, state)


def settle_first(folder: ModelFolder) -> None:
    """Finish what a killed process left; a version whose files are lost does not keep the others from changing."""
    look(folder)


# ---- labels ----------------------------------------------------------------------------------------------------


def promote(models_dir: Path, spec: str, label: str = STABLE, *, why: str = "", who: str | None = None) -> Change:
    """Put ``label`` on a version (``NAME``: the newest). Promoting to ``stable`` passes the gates first.

    Raises ``UserError`` where there is no such version, it is retired or damaged, or a gate decides against it.
    """
    from saman.registry.evaluation.gates import at_promotion
    from saman.registry.lifecycle.verify import sound

    if checked_label(label) == PREVIOUS:
        remedy = "saman models rollback uses it"
        raise UserError(f"the label {PREVIOUS!r} follows from what was stable before", remedy=remedy)
    folder = existing(models_dir, parse_spec(spec).name)
    number = _chosen(look(folder), spec).number
    sound(folder, number)
    while True:
        seen = look(folder).assigned.get(STABLE)
        gates = at_promotion(folder, number, label)

        def decide(state: ModelState, seen: int | None = seen, gates: Any = gates) -> Any:
            one = _offered(state, number)
            if state.assigned.get(STABLE) != seen and gates:
                raise _StableMoved
            if state.assigned.get(label) == one.number:
                return None
            return "promote", {"label": label, "from": state.assigned.get(label), "to": number, "gates": gates}

        try:
            return _change(folder, decide, why, who)
        except _StableMoved:
            continue  # the comparison was with a version that is no longer stable


class _StableMoved(Exception):  # noqa: N818  (a signal between two functions of this file)
    """Another process promoted while the gates were looked at."""


def _chosen(state: ModelState, text: str) -> VersionState:
    spec = parse_spec(text)
    if spec.number is not None:
        return _offered(state, spec.number)
    return state.labelled(spec.label) if spec.label is not None else state.newest()


def _offered(state: ModelState, number: int) -> VersionState:
    one = state.version(number)
    if one.status == RETIRED:
        offered = ", ".join(str(other.number) for other in state.present() if other.status == PUBLISHED) or "none"
        raise UserError(f"version {number} of {state.name} is retired", remedy=f"there are: {offered}")
    return one


def rollback(models_dir: Path, name: str, *, why: str = "", who: str | None = None) -> Change:
    """Make the version that was stable before this one stable again. Raises ``UserError`` where there is none."""

    def decide(state: ModelState) -> tuple[str, Mapping[str, Any]]:
        current, target = state.assigned.get(STABLE), state.rollback_target()
        if current is None or target is None:
            problem = f"no version of {name} was stable before" if current else f"no version of {name} is stable"
            raise UserError(problem, remedy=f"saman models promote {name}:VERSION")
        return "rollback", {"label": STABLE, "from": current, "to": target}

    return _change(existing(models_dir, name), decide, why, who)


def unlabel(models_dir: Path, name: str, label: str, *, why: str = "", who: str | None = None) -> Change:
    """Take a label away. Raises ``UserError`` where no version has it."""

    def decide(state: ModelState) -> tuple[str, Mapping[str, Any]]:
        if label == PREVIOUS:
            raise UserError(f"the label {PREVIOUS!r} follows from what was stable before")
        return "unlabel", {"label": label, "from": state.labelled(label).number}

    return _change(existing(models_dir, name), decide, why, who)


def approve(models_dir: Path, spec: str, by: str, *, why: str = "", who: str | None = None) -> Change:
    """Record that the person ``by`` approves of a version. Raises ``UserError`` where the policy lets others only."""
    folder = existing(models_dir, parse_spec(spec).name)
    asked = policy_of(folder).approvals
    if not by.strip():
        raise UserError("an approval needs a name", remedy="--by NAME")
    if asked and asked.by is not None and by not in asked.by:
        raise UserError(f"{by!r} may not approve versions of {folder.name}", remedy=f"may: {', '.join(asked.by)}")
    number = _chosen(look(folder), spec).number

    def decide(state: ModelState) -> tuple[str, Mapping[str, Any]] | None:
        one = _offered(state, number)
        if any(approval["by"] == by for approval in one.approvals):
            return None
        return "approve", {"version": number, "by": by, "manifest": one.manifest}

    return _change(folder, decide, why, who)


def sign(models_dir: Path, spec: str, private_key: Path, *, why: str = "", who: str | None = None) -> Change:
    """Sign a version's manifest. Raises ``UserError`` for a key that cannot sign, or a version that is damaged."""
    from saman.registry.lifecycle.verify import file_findings
    from saman.registry.store import signing

    folder = existing(models_dir, parse_spec(spec).name)
    number = _chosen(look(folder), spec).number
    found = file_findings(folder, number)
    if found:
        raise UserError(f"a damaged version is not signed: {found[0]}", remedy="saman models verify")
    signature = disk.digest(signing.sign(folder, number, private_key)).sha256

    def decide(state: ModelState) -> tuple[str, Mapping[str, Any]]:
        return "sign", {"version": _offered(state, number).number, "signature": signature}

    return _change(folder, decide, why, who)


# ---- the end -----------------------------------------------------------------------------------------------------


def _free(state: ModelState, number: int) -> None:
    """Raises ``UserError`` where the version has a label."""
    if labels := state.labels_of(number):
        remedy = "promote another version, or saman models unlabel, first"
        if labels == [PREVIOUS]:
            remedy = "a rollback would need it; it is free once two later versions have been stable"
        raise UserError(f"version {number} of {state.name} is in use: {', '.join(labels)}", remedy=remedy)


def retire(models_dir: Path, spec: str, *, why: str = "", who: str | None = None) -> Change:
    """Offer a version no longer; its files stay. Raises ``UserError`` where it has a label."""
    folder = existing(models_dir, parse_spec(spec).name)
    number = _one_number(spec)

    def decide(state: ModelState) -> tuple[str, Mapping[str, Any]] | None:
        if state.version(number).status == RETIRED:
            return None
        _free(state, number)
        return "retire", {"version": number}

    return _change(folder, decide, why, who)


def _one_number(text: str) -> int:
    number = parse_spec(text).number
    if number is None:
        raise UserError(f"{text!r} does not name one version", remedy="NAME:VERSION")
    return number


def to_prune(folder: ModelFolder, state: ModelState, keep: int | None = None) -> list[int]:
    """Numbers that the keep policy lets go: without a label, not among the newest ``keep``, and old enough."""
    policy = policy_of(folder).keep
    newest = policy.newest if keep is None else keep
    young = time.time() - policy.days * 86400
    present = [one for one in state.present() if not state.labels_of(one.number)]
    kept = {one.number for one in state.present()[-newest:]} if newest else set()
    return [one.number for one in present if one.number not in kept and (not policy.days or one.time < young)]


def prune(
    models_dir: Path, spec: str, keep: int | None = None, *, why: str = "", who: str | None = None, act: bool = True
) -> list[int]:
    """Remove one version (``NAME:3``), or all that the keep policy lets go (``NAME``); returns their numbers.

    A labelled version never goes: raises ``UserError`` where one is asked for by number.
    """
    parsed = parse_spec(spec)
    folder = existing(models_dir, parsed.name)
    if keep is not None and keep < 0:
        raise UserError(f"{keep} versions cannot be kept", remedy="--keep 0 or more")
    state = look(folder)
    asked = parsed.label is not None or parsed.number is not None
    numbers = [_one_number(spec)] if asked else to_prune(folder, state, keep)
    gone = []
    for number in numbers:
        if asked:
            if number not in state.versions:
                state.version(number)  # says which there are
            _free(state, number)
        if not act or _prune_one(folder, number, keep, asked, why, who):
            gone.append(number)
    return gone


def _prune_one(folder: ModelFolder, number: int, keep: int | None, asked: bool, why: str, who: str | None) -> bool:
    def decide(state: ModelState) -> tuple[str, Mapping[str, Any]] | None:
        one = state.versions[number]
        if one.status not in (PUBLISHED, RETIRED):
            return None
        if asked:
            _free(state, number)
        elif number not in to_prune(folder, state, keep):
            return None  # it got a label, or its successors went, since the list was made
        return "prune", {"version": number}

    return _change(folder, decide, why, who).entry is not None


def history(models_dir: Path, name: str) -> list[Entry]:
    """Every change of a model, oldest first."""
    return audit_log.read(existing(models_dir, name).log)
