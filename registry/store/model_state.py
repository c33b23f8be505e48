"""The state of a model, derived from the entries of its audit log: versions, labels and approvals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

from saman.configs.errors import UserError, choices
from saman.registry.store import audit_log
from saman.registry.store.audit_entry import AuditAction, Entry
from saman.registry.store.layout import ModelFolder, VersionSpec
from saman.registry.store.rollouts import RolloutState, after_entry

STABLE, CANARY, PREVIOUS = "stable", "canary", "previous"


class VersionStatus(str, Enum):
    """The life of a version after publication."""

    PUBLISHED = "published"
    RETIRED = "retired"
    PRUNED = "pruned"
    LOST = "lost"


KEPT = (VersionStatus.PUBLISHED, VersionStatus.RETIRED)


@dataclass(frozen=True)
class Approval:
    """An approval of a version: ``by`` approves, ``who`` entered it."""

    by: str
    time: float
    who: str
    why: str


@dataclass(frozen=True)
class FormatRecord:
    """A conversion of a version to another format, as the log records it."""

    version: int
    format: str
    manifest: str  # SHA-256 of the record beside the converted files
    staging: str  # the folder under staging/ in which the files arrived
    max_difference: float | None = None
    accuracy: float | None = None
    bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The record as plain values."""
        return asdict(self)


@dataclass
class VersionState:
    """The log's record of one version."""

    number: int
    manifest: str  # SHA-256 of the manifest's file
    staging: str  # the folder under staging/ in which it arrived
    time: float
    who: str
    run: str = ""
    status: VersionStatus = VersionStatus.PUBLISHED
    approvals: list[Approval] = field(default_factory=list)
    formats: dict[str, FormatRecord] = field(default_factory=dict)


@dataclass
class ModelState:
    """The log's record of a model."""

    name: str
    versions: dict[int, VersionState] = field(default_factory=dict)
    assigned: dict[str, int] = field(default_factory=dict)
    stable_history: list[int] = field(default_factory=list)
    label_versions: dict[str, set[int]] = field(default_factory=dict)  # every version that had the label, ever
    rollout: RolloutState | None = None  # the newest

    @property
    def highest(self) -> int:
        """The highest number ever published; 0 before the first."""
        return max(self.versions, default=0)

    @property
    def labels(self) -> dict[str, int]:
        """Labels and their versions; ``previous`` is the target of a rollback."""
        earlier = self.rollback_target()
        return dict(sorted({**self.assigned, **({PREVIOUS: earlier} if earlier else {})}.items()))

    @property
    def moved_labels(self) -> set[str]:
        """Labels that have pointed to several versions."""
        return {label for label, versions in self.label_versions.items() if len(versions) > 1}

    @property
    def active_rollout(self) -> RolloutState | None:
        """The rollout that has not ended."""
        return self.rollout if self.rollout is not None and self.rollout.is_active else None

    def rollback_target(self) -> int | None:
        """The newest version that was stable before the current version and is still published."""
        current = self.assigned.get(STABLE)
        earlier = (n for n in reversed(self.stable_history[:-1]) if n != current)
        return next((n for n in earlier if self.versions[n].status is VersionStatus.PUBLISHED), None)

    def labels_of(self, number: int) -> list[str]:
        """The labels of a version."""
        return [label for label, version in self.labels.items() if version == number]

    def present(self) -> list[VersionState]:
        """Versions with files, lowest number first."""
        return [self.versions[n] for n in sorted(self.versions) if self.versions[n].status in KEPT]

    def version(self, number: int) -> VersionState:
        """The version ``number``; raises ``UserError`` where it does not exist or its files are gone."""
        version = self.versions.get(number)
        if version is None or version.status not in KEPT:
            what = f"was {version.status.value}" if version else "does not exist"
            there = ", ".join(str(other.number) for other in self.present()) or "none"
            raise UserError(f"version {number} of {self.name} {what}", remedy=f"there are: {there}")
        return version

    def labelled(self, label: str) -> VersionState:
        """The version with a label; raises ``UserError`` that lists the labels in use."""
        if label not in self.labels:
            held = choices(label, self.labels) if self.labels else "no version has a label yet; saman models promote"
            raise UserError(f"no version of {self.name} is labelled {label!r}", remedy=held)
        return self.version(self.labels[label])

    def newest(self) -> VersionState:
        """The published version with the highest number; raises ``UserError`` where there is none."""
        offered = [version for version in self.present() if version.status is VersionStatus.PUBLISHED]
        if not offered:
            raise UserError(f"{self.name} has no published version", remedy="saman models publish RUN")
        return offered[-1]

    def find(self, spec: VersionSpec) -> VersionState:
        """The version that a specification means; a name alone means the stable version, else the newest."""
        if spec.number is not None:
            return self.version(spec.number)
        if spec.label is not None:
            return self.labelled(spec.label)
        return self.labelled(STABLE) if STABLE in self.assigned else self.newest()


def read_model(folder: ModelFolder) -> ModelState:
    """Read the state of a model from the audit log in the store. Writes nothing.

    Raises:
        UserError: The log is damaged or of a newer schema.
    """
    return replay(folder.name, audit_log.read(folder.log))


def replay(name: str, entries: Iterable[Entry]) -> ModelState:
    """The state after all entries. Unknown actions of a newer saman are skipped.

    Raises:
        UserError: An entry names a version that no earlier entry published, or publishes a version again.
    """
    state = ModelState(name)
    for entry in entries:
        step = _STEPS.get(entry.action)
        if step is not None:
            _check_order(state, entry)
            step(state, entry)
            for label, number in state.labels.items():
                state.label_versions.setdefault(label, set()).add(number)
    return state


def _check_order(state: ModelState, entry: Entry) -> None:
    """Raise ``UserError`` where an entry contradicts those before it."""
    publishes = entry.action == AuditAction.PUBLISH.value
    named = [entry.facts.get("version"), entry.moved_to]
    named += [entry.moved_from] if entry.action == AuditAction.ROLLBACK.value else []
    wrong = [number for number in named if number is not None and (number in state.versions) == publishes]
    if wrong:
        what = "publishes version {} again" if publishes else "names version {}, which was never published"
        problem = f"entry {entry.number} of the audit log is damaged: it {what.format(wrong[0])}"
        raise UserError(problem, where=state.name, remedy="saman models verify lists all damage")


def _publish(state: ModelState, entry: Entry) -> None:
    state.versions[entry.version] = VersionState(
        number=entry.version,
        manifest=str(entry.facts["manifest"]),
        staging=str(entry.facts["staging"]),
        time=entry.time,
        who=entry.who,
        run=entry.text("run"),
    )


def _set_status(status: VersionStatus) -> Callable[[ModelState, Entry], None]:
    def step(state: ModelState, entry: Entry) -> None:
        state.versions[entry.version].status = status

    return step


def _promote(state: ModelState, entry: Entry) -> None:
    label, number = str(entry.facts["label"]), int(entry.facts["to"])
    state.assigned[label] = number
    if label == STABLE:
        state.stable_history = [*(n for n in state.stable_history if n != number), number]


def _rollback(state: ModelState, entry: Entry) -> None:
    left, number = int(entry.facts["from"]), int(entry.facts["to"])
    state.assigned[STABLE] = number
    state.stable_history = [*(n for n in state.stable_history if n not in (left, number)), number]


def _unlabel(state: ModelState, entry: Entry) -> None:
    state.assigned.pop(str(entry.facts["label"]), None)


def _approve(state: ModelState, entry: Entry) -> None:
    approval = Approval(by=str(entry.facts["by"]), time=entry.time, who=entry.who, why=entry.why)
    state.versions[entry.version].approvals.append(approval)


def _export(state: ModelState, entry: Entry) -> None:
    facts = entry.facts
    state.versions[entry.version].formats[str(facts["format"])] = FormatRecord(
        version=entry.version,
        format=str(facts["format"]),
        manifest=entry.text("manifest"),
        staging=entry.text("staging"),
        max_difference=facts.get("max_difference"),
        accuracy=facts.get("accuracy"),
        bytes=facts.get("bytes"),
    )


def _rollout(state: ModelState, entry: Entry) -> None:
    """A rollout that ends takes its candidate's label with it: no kill comes between the two."""
    active, state.rollout = state.active_rollout, after_entry(state.rollout, entry)
    if active and state.active_rollout is None and state.assigned.get(CANARY) == active.version:
        del state.assigned[CANARY]


_STEPS: dict[str, Callable[[ModelState, Entry], None]] = {
    AuditAction.PUBLISH.value: _publish,
    AuditAction.LOSE.value: _set_status(VersionStatus.LOST),
    AuditAction.PROMOTE.value: _promote,
    AuditAction.ROLLBACK.value: _rollback,
    AuditAction.UNLABEL.value: _unlabel,
    AuditAction.APPROVE.value: _approve,
    AuditAction.RETIRE.value: _set_status(VersionStatus.RETIRED),
    AuditAction.PRUNE.value: _set_status(VersionStatus.PRUNED),
    AuditAction.EXPORT.value: _export,
    AuditAction.ROLLOUT.value: _rollout,
}
