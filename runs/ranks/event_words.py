"""The events of a run that people want to see while it goes on, in words."""

from __future__ import annotations

from saman.runs.elastic.world_events import WorldFormed
from saman.runs.events import Event, EventKind
from saman.runs.ranks.rank_events import SlowRank

_FORMS = {  # of the facts of an event
    EventKind.ATTEMPT_STARTED: "attempt begins on {ranks} ranks",
    EventKind.RESTARTING: "{reason}",
    EventKind.NOT_RESTARTED: "{reason}",
    EventKind.RANK_FAILED: "rank {rank} failed: {message}",
    EventKind.NONFINITE: "{text}",
    EventKind.ROLLED_BACK: "back to step {step}; step {skipped} is skipped",
    EventKind.DIVERGED: "{text}",
    EventKind.STALLED: "rank {rank} makes no progress in phase {phase}",
    EventKind.STALL_OVER: "the stall is over",
    EventKind.NODE_FAILED: "node {node} is lost",
    EventKind.STOP_REQUESTED: "asked to stop: {reason}",
    EventKind.COMPLETED: "completed",
    EventKind.FAILED: "failed: {message}",
    EventKind.CANCELLED: "cancelled",
    EventKind.PREEMPTED: "checkpointed, to be continued",
}
_FACTS = ("ranks", "reason", "rank", "message", "text", "step", "skipped", "phase", "node")


def event_words(event: Event) -> str | None:
    """Return an event in a line; ``None`` for an event that says nothing new to somebody who watches.

    >>> event_words(Event("node_failed", "job", facts={"node": "n3"}))
    'node n3 is lost'
    """
    if (world := WorldFormed.from_event(event)) is not None:
        return world.sentence() if world.generation > 1 else None
    if (slow := SlowRank.from_event(event)) is not None:
        return slow.words
    form = next((text for kind, text in _FORMS.items() if event.kind == kind), None)
    if form is None:
        return None
    words = form.format_map({**dict.fromkeys(_FACTS, "?"), **event.facts}).removesuffix(": ?")
    return words.splitlines()[0] if words else event.kind
