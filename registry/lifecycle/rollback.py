"""Makes the previous stable version stable again."""

from __future__ import annotations

from pathlib import Path

from saman.configs.errors import UserError
from saman.registry.lifecycle.changes import Change, apply_change
from saman.registry.store.audit_decisions import AuditDecision, RollbackDecision
from saman.registry.store.layout import find_model
from saman.registry.store.model_state import STABLE, ModelState


def rollback(models_dir: Path, name: str, *, why: str = "", who: str | None = None) -> Change:
    """Record that ``stable`` moves back to the version that had it before.

    Args:
        models_dir: The models folder.
        name: The model's name.
        why: The reason, for the log.
        who: The author, for the log; default: the user of this process.

    Raises:
        UserError: No version is stable, or none was stable before.
    """

    def decide(state: ModelState) -> AuditDecision:
        current, target = state.assigned.get(STABLE), state.rollback_target()
        if current is None or target is None:
            problem = f"no version of {name} was stable before" if current else f"no version of {name} is stable"
            raise UserError(problem, remedy=f"saman models promote {name}:VERSION")
        return RollbackDecision(STABLE, current, target)

    return apply_change(find_model(models_dir, name), decide, why, who)
