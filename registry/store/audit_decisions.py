"""Changes of a model as they are decided, before the audit log gives them a number and an author."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from saman.registry.store.audit_entry import AuditAction
from saman.registry.store.manifest import GateRecord
from saman.registry.store.rollouts import RolloutEvent, RolloutOutcome, RolloutStart


@dataclass(frozen=True)
class AuditDecision:
    """Base of the changes below; ``action`` names the change in the log."""

    action: ClassVar[AuditAction]

    def facts(self) -> dict[str, Any]:
        """The facts as the log's entry holds them."""
        return {part.name: getattr(self, part.name) for part in fields(self)}


@dataclass(frozen=True)
class PublishDecision(AuditDecision):
    """Publish the files in ``staging`` as a version; ``manifest`` is the SHA-256 of its manifest."""

    action: ClassVar[AuditAction] = AuditAction.PUBLISH

    version: int
    manifest: str
    staging: str
    run: str


@dataclass(frozen=True)
class PromoteDecision(AuditDecision):
    """Move a label to a version; ``gates`` are the results of the policy's gates."""

    action: ClassVar[AuditAction] = AuditAction.PROMOTE

    label: str
    moved_from: int | None
    moved_to: int
    gates: Sequence[GateRecord] = ()

    def facts(self) -> dict[str, Any]:
        """The facts as the log's entry holds them."""
        gates = [gate.model_dump(mode="json") for gate in self.gates]
        return {"label": self.label, "from": self.moved_from, "to": self.moved_to, "gates": gates}


@dataclass(frozen=True)
class RollbackDecision(AuditDecision):
    """Move ``stable`` back to an earlier version."""

    action: ClassVar[AuditAction] = AuditAction.ROLLBACK

    label: str
    moved_from: int
    moved_to: int

    def facts(self) -> dict[str, Any]:
        """The facts of this decision as the audit log's entry holds them."""
        return {"label": self.label, "from": self.moved_from, "to": self.moved_to}


@dataclass(frozen=True)
class UnlabelDecision(AuditDecision):
    """Take a label away from a version."""

    action: ClassVar[AuditAction] = AuditAction.UNLABEL

    label: str
    moved_from: int

    def facts(self) -> dict[str, Any]:
        """The facts as the log's entry holds them."""
        return {"label": self.label, "from": self.moved_from}


@dataclass(frozen=True)
class ApproveDecision(AuditDecision):
    """``by`` approves the version with this ``manifest`` (SHA-256)."""

    action: ClassVar[AuditAction] = AuditAction.APPROVE

    version: int
    by: str
    manifest: str


@dataclass(frozen=True)
class SignDecision(AuditDecision):
    """Sign a version; ``signature`` is the SHA-256 of the signature's file."""

    action: ClassVar[AuditAction] = AuditAction.SIGN

    version: int
    signature: str


@dataclass(frozen=True)
class RetireDecision(AuditDecision):
    """Stop offering a version; its files stay."""

    action: ClassVar[AuditAction] = AuditAction.RETIRE

    version: int


@dataclass(frozen=True)
class PruneDecision(AuditDecision):
    """Remove the files of a version."""

    action: ClassVar[AuditAction] = AuditAction.PRUNE

    version: int


@dataclass(frozen=True)
class ExportDecision(AuditDecision):
    """Add a version in another format.

    Attributes:
        version: The version.
        format: Name of the format.
        manifest: SHA-256 of the record beside the converted files.
        staging: The folder under ``staging/`` in which the files arrived.
        max_difference: Largest relative difference between the answers of both formats.
        accuracy: Accuracy of the converted model.
        bytes: Size of the converted files.
    """

    action: ClassVar[AuditAction] = AuditAction.EXPORT

    version: int
    format: str
    manifest: str
    staging: str
    max_difference: float | None
    accuracy: float | None
    bytes: int | None


@dataclass(frozen=True)
class RolloutDecision(AuditDecision):
    """Start, pause, resume or end a rollout.

    Attributes:
        version: The candidate.
        rollout: The name of the rollout.
        event: What happens to it.
        start: How it distributes requests; only with the start.
        outcome: How it ends; only with the end.
        evidence: The judgement that the end rests on.
    """

    action: ClassVar[AuditAction] = AuditAction.ROLLOUT

    version: int
    rollout: str
    event: RolloutEvent
    start: RolloutStart | None = None
    outcome: RolloutOutcome | None = None
    evidence: Mapping[str, Any] | None = None

    def facts(self) -> dict[str, Any]:
        """The facts as the log's entry holds them."""
        base = {"version": self.version, "rollout": self.rollout, "event": self.event.value}
        start = {} if self.start is None else self.start.to_json()
        end = {} if self.outcome is None else {"outcome": self.outcome.value, "evidence": self.evidence}
        return {**base, **start, **end}
