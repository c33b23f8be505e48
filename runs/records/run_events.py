"""The facts of events about a whole run, as types: its creation, its job, the start of an attempt, its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.runs.events import Event, EventKind


def newest(events: Sequence[Event], kind: str) -> Event | None:
    """The newest event of a kind; ``None`` if there is none."""
    return next((event for event in reversed(events) if event.kind == kind), None)


@dataclass(frozen=True)
class Creation:
    """``created``: folders of the user's code, working directory, and where to publish."""

    code_path: tuple[Path, ...] = ()
    directory: Path | None = None
    models_dir: Path | None = None

    @classmethod
    def find(cls, events: Iterable[Event]) -> Creation:
        """Read the facts of the run's creation; empty if they are not recorded."""
        facts = next((event.facts for event in events if event.kind == EventKind.CREATED), {})
        return cls(
            code_path=tuple(Path(str(folder)) for folder in facts.get("code_path") or ()),
            directory=Path(str(facts["directory"])) if facts.get("directory") else None,
            models_dir=Path(str(facts["models_dir"])) if facts.get("models_dir") else None,
        )


@dataclass(frozen=True)
class JobSubmission:
    """``queued``: a job that Slurm took for the run."""

    job: str
    cluster: str | None = None
    partition: str | None = None

    @classmethod
    def from_event(cls, event: Event) -> JobSubmission | None:
        """The facts of an event; ``None`` if it is of another kind or names no job."""
        facts = event.facts
        if event.kind != EventKind.QUEUED or "job" not in facts:
            return None
        named = {name: str(facts[name]) for name in ("cluster", "partition") if facts.get(name) is not None}
        return cls(str(facts["job"]), **named)


@dataclass(frozen=True)
class RunEnd:
    """``completed``, ``failed``, ``cancelled`` or ``preempted``: why, and the first failing ranks."""

    texts: tuple[str, ...] = ()
    exit_code: int | None = None
    ranks: tuple[int, ...] = ()

    @classmethod
    def from_event(cls, event: Event) -> RunEnd:
        """The facts of an event that ends an attempt or a run."""
        facts = event.facts
        code, ranks = facts.get("exit_code"), facts.get("ranks")
        return cls(
            texts=tuple(str(facts[name]) for name in ("message", "reason") if facts.get(name)),
            exit_code=code if isinstance(code, int) else None,
            ranks=tuple(rank for rank in ranks if isinstance(rank, int)) if isinstance(ranks, list) else (),
        )
