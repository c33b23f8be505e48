"""What the entries of a model's audit log add up to: its versions, labels and approvals. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from saman.configs.errors import UserError, choices
from saman.registry.store.audit_log import Entry

STABLE, CANARY, PREVIOUS = "stable", "canary", "previous"
PUBLISHED, RETIRED, PRUNED, LOST = "published", "retired", "pruned", "lost"


@dataclass
class VersionState:
    """What the log says of one version."""

    number: int
    manifest: str  # SHA-256 of the manifest's file
    staging: str  # the folder under staging/ in which it arrived
    time: float
    who: str
    run: str = ""
    status: str = PUBLISHED
    approvals: list[dict[str, Any]] = field(default_factory=list)
    formats: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class ModelState:
    """What the log says of a model."""

    name: str
    versions: dict[int, VersionState] = field(default_factory=dict)
    assigned: dict[str, int] = field(default_factory=dict)
    stable_history: list[int] = field(default_factory=list)
    entries: int = 0

    @property
    def highest(self) -> int:
        """The highest number ever published; 0 before the first."""
        return max(self.versions, default=0)

    @property
    def labels(self) -> dict[str, int]:
        """Labels and the versions they are on; ``previous`` is where a rollback would lead."""
        earlier = self.rollback_target()
        return dict(sorted({**self.assigned, **({PREVIOUS: earlier} if earlier else {})}.items()))

    def rollback_target(self) -> int | None:
        """The newest version that was stable before this one and still can be."""
        servable = [n for n in self.stable_history[:-1] if self.versions[n].status == PUBLISHED]
        current = self.assigned.get(STABLE)
        return next((number for number in reversed(servable) if number != current), None)

    def labels_of(self, number: int) -> list[str]:
        """The labels on a version."""
        return [label for label, version in self.labels.items() if version == number]

    def present(self) -> list[VersionState]:
        """Versions whose files are kept, lowest number first."""
        return [self.versions[n] for n in sorted(self.versions) if self.versions[n].status in (PUBLISHED, RETIRED)]

    def version(self, number: int) -> VersionState:
        """A version whose files are kept; raises ``UserError`` that says what became of it otherwise."""
        one = self.versions.get(number)
        if one is None or one.status in (PRUNED, LOST):
            what = f"was {one.status}" if one else "does not exist"
            there = ", ".join(str(other.number) for other in self.present()) or "none"
            raise UserError(f"version {number} of {self.name} {what}", remedy=f"there are: {there}")
        return one

    def labelled(self, label: str) -> VersionState:
        """The version that a label is on; raises ``UserError`` naming the labels in use."""
        if label not in self.labels:
            held = choices(label, self.labels) if self.labels else "no version has a label yet; saman models promote"
            raise UserError(f"no version of {self.name} is labelled {label!r}", remedy=held)
        return self.version(self.labels[label])

    def newest(self) -> VersionState:
        """The published version with the highest number; raises ``UserError`` where none is left."""
        offered = [one for one in self.present() if one.status == PUBLISHED]
        if not offered:
            raise UserError(f"{self.name} has no published version", remedy="saman models publish RUN")
        return offered[-1]


def fold(name: str, entries: Iterable[Entry]) -> ModelState:
    """The state after all entries. Actions of a newer saman that change nothing here are passed over."""
    state = ModelState(name)
    for entry in entries:
        state.entries = entry.number
        step = _STEPS.get(entry.action)
        if step is not None:
            step(state, entry, entry.facts)
    return state


def _publish(state: ModelState, entry: Entry, facts: Mapping[str, Any]) -> None:
    number = int(facts["version"])
    state.versions[number] = VersionState(
        number, str(facts["manifest"]), str(facts["staging"]), entry.time, entry.who, str(facts.get("run", ""))
    )


def _status(status: str) -> Any:
    def step(state: ModelState, _entry: Entry, facts: Mapping[str, Any]) -> None:
        state.versions[int(facts["version"])].status = status

    return step


def _promote(state: ModelState, _entry: Entry, facts: Mapping[str, Any]) -> None:
    label, number = str(facts["label"]), int(facts["to"])
    state.assigned[label] = number
    if label == STABLE:
        state.stable_history = [*(n for n in state.stable_history if n != number), number]


def _rollback(state: ModelState, _entry: Entry, facts: Mapping[str, Any]) -> None:
    left, number = int(facts["from"]), int(facts["to"])
    state.assigned[STABLE] = number
    state.stable_history = [*(n for n in state.stable_history if n not in (left, number)), number]


def _unlabel(state: ModelState, _entry: Entry, facts: Mapping[str, Any]) -> None:
    state.assigned.pop(str(facts["label"]), None)


def _approve(state: ModelState, entry: Entry, facts: Mapping[str, Any]) -> None:
    approval = {"by": facts["by"], "time": entry.time, "who": entry.who, "why": entry.why}
    state.versions[int(facts["version"])].approvals.append(approval)


def _export(state: ModelState, _entry: Entry, facts: Mapping[str, Any]) -> None:
    state.versions[int(facts["version"])].formats[str(facts["format"])] = dict(facts)


_STEPS = {
    "publish": _publish,
    "lose": _status(LOST),
    "promote": _promote,
    "rollback": _rollback,
    "unlabel": _unlabel,
    "approve": _approve,
    "retire": _status(RETIRED),
    "prune": _status(PRUNED),
    "export": _export,
}
