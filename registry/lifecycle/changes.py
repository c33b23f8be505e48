"""The common path of every change of a model: reconcile, append an entry, reconcile, rewrite ``models.config``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from saman.configs.errors import UserError
from saman.registry.lifecycle import serving_config
from saman.registry.lifecycle.reconcile import reconcile, try_reconcile
from saman.registry.store import audit_log
from saman.registry.store.audit_decisions import AuditDecision
from saman.registry.store.audit_entry import Entry
from saman.registry.store.layout import ModelFolder, parse_spec
from saman.registry.store.model_state import ModelState, VersionState, VersionStatus, replay
from saman.runs.files.write_errors import MODELS_OPTION, explain_write_errors


@dataclass(frozen=True)
class Change:
    """The result of a change: the new entry (``None`` where nothing had to change) and the state after it."""

    entry: Entry | None
    state: ModelState


Decide = Callable[[ModelState], AuditDecision | None]


def apply_change(folder: ModelFolder, decide: Decide, why: str, who: str | None) -> Change:
    """Append the decision, then make folders and ``models.config`` follow.

    Args:
        folder: The model.
        decide: Returns the change for a state, or ``None`` for no change; may raise, may run several times.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.

    Raises:
        UserError: ``decide`` raised it, or the log is damaged.
        EnvironmentLack: The models folder is not writable.
    """
    changed = False

    def decide_on_entries(entries: list[Entry]) -> AuditDecision | None:
        nonlocal changed
        decision = decide(replay(folder.name, entries))
        changed = decision is not None
        return decision

    with explain_write_errors(folder.path, "the models folder", MODELS_OPTION):
        try_reconcile(folder)
        entries = audit_log.append_change(folder.log, decide_on_entries, why=why, who=who or audit_log.current_user())
        state = reconcile(folder, entries)
        serving_config.refresh(folder.models_dir)
    return Change(entries[-1] if changed else None, state)


def choose_version(state: ModelState, text: str) -> VersionState:
    """The version that a life-cycle change means; a name alone means the newest; a retired version is refused."""
    spec = parse_spec(text)
    if spec.number is not None:
        return require_offered(state, spec.number)
    return state.labelled(spec.label) if spec.label is not None else state.newest()


def require_offered(state: ModelState, number: int) -> VersionState:
    """Refuse a change of a version that is retired, pruned or unknown."""
    version = state.version(number)
    if version.status is VersionStatus.RETIRED:
        published = [other for other in state.present() if other.status is VersionStatus.PUBLISHED]
        offered = ", ".join(str(other.number) for other in published) or "none"
        raise UserError(f"version {number} of {state.name} is retired", remedy=f"there are: {offered}")
    return version


def require_number(text: str) -> int:
    """The number of the version that a change means; raises ``UserError`` unless it is ``NAME:VERSION``."""
    number = parse_spec(text).number
    if number is None:
        raise UserError(f"{text!r} lacks a version number", remedy="NAME:VERSION")
    return number
