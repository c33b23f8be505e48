"""Records approvals and signatures of versions."""

from __future__ import annotations

from pathlib import Path

from saman.configs.errors import UserError
from saman.registry.lifecycle.changes import Change, apply_change, choose_version, require_offered
from saman.registry.lifecycle.reconcile import try_reconcile
from saman.registry.lifecycle.verify import find_file_damage
from saman.registry.store import signing
from saman.registry.store.audit_decisions import ApproveDecision, AuditDecision, SignDecision
from saman.registry.store.layout import find_model, parse_spec
from saman.registry.store.model_state import ModelState
from saman.registry.store.policies import read_policy
from saman.runs.files import disk


def approve(models_dir: Path, spec: str, by: str, *, why: str = "", who: str | None = None) -> Change:
    """Record the approval of a version.

    Args:
        models_dir: The models folder.
        spec: ``NAME``, ``NAME:VERSION`` or ``NAME:LABEL``; a name alone means the newest version.
        by: The approver.
        why: The reason, for the log.
        who: The author of the entry; default: the user of this process.

    Raises:
        UserError: The approver is not in the policy's allow-list, or there is no such version.
    """
    folder = find_model(models_dir, parse_spec(spec).name)
    policy = read_policy(folder).approvals
    if not by.strip():
        raise UserError("an approval needs a name", remedy="--by NAME")
    if policy and policy.by is not None and by not in policy.by:
        allowed = ", ".join(policy.by)
        raise UserError(f"{by!r} may not approve versions of {folder.name}", remedy=f"allow-list: {allowed}")
    number = choose_version(try_reconcile(folder), spec).number

    def decide(state: ModelState) -> AuditDecision | None:
        version = require_offered(state, number)
        if any(approval.by == by for approval in version.approvals):
            return None
        return ApproveDecision(number, by, version.manifest)

    return apply_change(folder, decide, why, who)


def sign(models_dir: Path, spec: str, private_key: Path, *, why: str = "", who: str | None = None) -> Change:
    """Sign a version and record it beside its approvals.

    Args:
        models_dir: The models folder.
        spec: ``NAME``, ``NAME:VERSION`` or ``NAME:LABEL``; a name alone means the newest version.
        private_key: The file of the private key, in PEM.
        why: The reason, for the log.
        who: The author of the entry; default: the user of this process.

    Raises:
        UserError: The key is unusable, or the version is damaged.
    """
    folder = find_model(models_dir, parse_spec(spec).name)
    number = choose_version(try_reconcile(folder), spec).number
    damage = find_file_damage(folder, number)
    if damage:
        raise UserError(f"a damaged version cannot be signed: {damage[0]}", remedy="saman models verify")
    signature = disk.digest_file(signing.sign(folder, number, private_key)).sha256

    def decide(state: ModelState) -> AuditDecision:
        return SignDecision(require_offered(state, number).number, signature)

    return apply_change(folder, decide, why, who)
