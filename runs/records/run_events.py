"""The facts of events about a whole run, as types: its creation, jobs, stops, lost nodes, its end, its version."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any

from saman.runs.events import USER, Event, EventKind
from saman.runs.records.schema import integer, number, text


def newest_event(events: Sequence[Event], kind: str) -> Event | None:
    """The newest record among run events of a kind; ``None`` if there is none."""
    return next((event for event in reversed(events) if event.kind == kind), None)


@dataclass(frozen=True)
class Creation:
    """``created``: folders of the user's code, working directory, where to publish, step of a workflow, trial."""

    code_path: tuple[Path, ...] = ()
    directory: Path | None = None
    models_dir: Path | None = None
    step: str | None = None  # of a workflow, as NAME/STEP
    trial: str | None = None  # of a tuning study, as TOKEN/12, or TOKEN/12/seed-3

    @classmethod
    def find(cls, events: Iterable[Event]) -> Creation:
        """Read the facts of the run's creation; empty if they are not recorded."""
        facts = next((event.facts for event in events if event.kind == EventKind.CREATED), {})
        return cls(
            code_path=tuple(_path(str(folder)) for folder in facts.get("code_path") or ()),
            directory=_path(str(facts["directory"])) if facts.get("directory") else None,
            models_dir=_path(str(facts["models_dir"])) if facts.get("models_dir") else None,
            step=str(facts["step"]) if facts.get("step") else None,
            trial=str(facts["trial"]) if facts.get("trial") else None,
        )


@lru_cache(maxsize=1024)
def _path(text: str) -> Path:
    """The path of a text: the thousands of runs of a study name the same few folders."""
    return Path(text)


class After(str, Enum):
    """How the run before must end, so that the next begins."""

    OK = "ok"  # it completes
    ANY = "any"  # it ends, whatever its result

    @property
    def verb(self) -> str:
        """The condition of a recorded prerequisite as the end of "waits for … to"."""
        return "complete" if self is After.OK else "end"


@dataclass(frozen=True)
class Prerequisite:
    """What a job waits for: a run by its folder, or a job that belongs to no run."""

    condition: After
    run: Path | None = None
    job: str | None = None

    def to_json(self) -> dict[str, str]:
        """Plain values of the prerequisite, as a recorded event holds them."""
        target = {"run": str(self.run)} if self.run is not None else {"job": str(self.job)}
        return {**target, "condition": self.condition.value}

    @classmethod
    def from_json(cls, value: object) -> Prerequisite | None:
        """Read a prerequisite from a recorded event; ``None`` if it names nothing."""
        if not isinstance(value, dict) or not ("run" in value or "job" in value):
            return None
        condition = After.ANY if value.get("condition") == After.ANY.value else After.OK
        if "run" in value:
            return cls(condition, run=Path(str(value["run"])))
        return cls(condition, job=str(value["job"]))


@dataclass(frozen=True)
class CreatedExperiment:
    """``created``: what readers of thousands of runs need of an experiment, without its file.

    ``digest`` is that of the experiment as written then, and ``publishes`` whether it asks for a model version; both
    are ``None`` in older runs and for programs.
    """

    digest: str | None = None
    publishes: bool | None = None

    @classmethod
    def find(cls, events: Iterable[Event]) -> CreatedExperiment:
        """Read the facts of the run's creation; empty if they are not recorded."""
        facts = next((event.facts for event in events if event.kind == EventKind.CREATED), {})
        digest, publishes = facts.get("digest"), facts.get("publishes")
        return cls(
            digest if isinstance(digest, str) else None,
            publishes if isinstance(publishes, bool) else None,
        )


@dataclass(frozen=True)
class JobSubmission:
    """``queued``: a job that Slurm took for the run, and what it waits for."""

    job: str
    cluster: str | None = None
    partition: str | None = None
    follow_ups: tuple[str, ...] = ()  # as older runs recorded them
    after: tuple[Prerequisite, ...] = ()

    @classmethod
    def from_event(cls, event: Event) -> JobSubmission | None:
        """The facts of an event; ``None`` if it is of another kind or names no job."""
        facts = event.facts
        if event.kind != EventKind.QUEUED or "job" not in facts:
            return None
        named = {name: str(facts[name]) for name in ("cluster", "partition") if facts.get(name) is not None}
        listed = facts.get("after")
        after = (Prerequisite.from_json(item) for item in (listed if isinstance(listed, list) else ()))
        return cls(
            str(facts["job"]),
            follow_ups=_texts(facts.get("follow_ups")),
            after=tuple(each for each in after if each is not None),
            **named,
        )


@dataclass(frozen=True)
class FollowUps:
    """``follow_ups``: jobs that continue the run, each if the job before it is cut short."""

    jobs: tuple[str, ...] = ()

    @classmethod
    def from_event(cls, event: Event) -> FollowUps | None:
        """The facts of an event; ``None`` if it is of another kind."""
        return cls(_texts(event.facts.get("jobs"))) if event.kind == EventKind.FOLLOW_UPS else None


@dataclass(frozen=True)
class AttemptStart:
    """``attempt_started``: the host of the supervisor, the id of its process, and the number of ranks."""

    host: str | None = None
    pid: int | None = None
    ranks: int | None = None

    @classmethod
    def from_event(cls, event: Event) -> AttemptStart | None:
        """The facts of an event; ``None`` if it is of another kind."""
        if event.kind != EventKind.ATTEMPT_STARTED:
            return None
        host, pid, ranks = (event.facts.get(name) for name in ("host", "pid", "ranks"))
        known = (value if isinstance(value, int) else None for value in (pid, ranks))
        return cls(None if host is None else str(host), *known)


class StopCause(str, Enum):
    """Why a run was asked to stop."""

    CANCELLED = "cancel"  # the user ended the run
    PRUNED = "prune"  # a tuning study ended the trial
    OTHER = "other"  # a signal, or a request in ``control/``: the run is to continue later


@dataclass(frozen=True)
class StopRequest:
    """``stop_requested``: who asked the ranks to stop, and why."""

    who: str
    cause: StopCause

    @classmethod
    def from_event(cls, event: Event) -> StopRequest | None:
        """The facts of an event; ``None`` if it is of another kind."""
        if event.kind != EventKind.STOP_REQUESTED:
            return None
        ended = (StopCause.CANCELLED, StopCause.PRUNED)
        cause = next((each for each in ended if event.facts.get("reason") == each.value), StopCause.OTHER)
        return cls(event.who, cause)

    @property
    def cancels(self) -> bool:
        """Whether the run is not to continue by itself: a user cancelled it, or a tuning study pruned it."""
        return self.cause in (StopCause.CANCELLED, StopCause.PRUNED) and self.who == USER


class RestartCause(str, Enum):
    """The kind of failure after which a run starts again by itself."""

    ERROR = "error"  # an exception in a rank
    KILLED = "killed"  # by a signal: a crash in compiled code, a SIGKILL
    PEER_LOST = "peer lost"  # no rank failed by itself
    STALL = "stall"
    NODE_LOST = "node lost"
    UNKNOWN = "unknown"  # ranks ended without a trace, or never began

    @property
    def words(self) -> str:
        """The cause for people, with its article."""
        return _CAUSES[self]


_CAUSES = {
    RestartCause.ERROR: "an error",
    RestartCause.KILLED: "the death of a rank",
    RestartCause.PEER_LOST: "the loss of a peer",
    RestartCause.STALL: "a stall",
    RestartCause.NODE_LOST: "the loss of a node",
    RestartCause.UNKNOWN: "an end without a trace",
}


@dataclass(frozen=True)
class Restarting:
    """``restarting``: an attempt failed, and the next begins by itself after ``pause_seconds``.

    ``error`` is the Python error without its numbers, ``step`` that of the first failing rank, where they are known.
    """

    reason: str
    cause: RestartCause = RestartCause.UNKNOWN
    pause_seconds: float = 0.0
    error: str | None = None
    step: int | None = None

    def facts(self) -> dict[str, Any]:
        """The facts to append to the run's events."""
        return {**asdict(self), "cause": self.cause.value}

    @classmethod
    def from_event(cls, event: Event) -> Restarting | None:
        """The facts of an event; ``None`` if it is of another kind."""
        if event.kind != EventKind.RESTARTING:
            return None
        known = {cause.value: cause for cause in RestartCause}
        facts = event.facts
        return cls(
            reason=str(facts.get("reason", "")),
            cause=known.get(str(facts.get("cause")), RestartCause.UNKNOWN),
            pause_seconds=number(facts.get("pause_seconds")) or 0.0,
            error=text(facts.get("error")),
            step=integer(facts.get("step")),
        )


@dataclass(frozen=True)
class NodeLoss:
    """``node_failed``: a node that Slurm lost."""

    node: str

    @classmethod
    def from_event(cls, event: Event) -> NodeLoss | None:
        """The facts of an event; ``None`` if it is of another kind."""
        return cls(str(event.facts.get("node"))) if event.kind == EventKind.NODE_FAILED else None


@dataclass(frozen=True)
class VersionPublication:
    """``published``: the model version that holds the run's model."""

    model: str
    version: int

    @classmethod
    def from_event(cls, event: Event) -> VersionPublication | None:
        """The facts of an event; ``None`` if it is of another kind or names no version."""
        model, version = event.facts.get("model"), event.facts.get("version")
        if event.kind != EventKind.PUBLISHED or model is None or version is None:
            return None
        return cls(str(model), int(version))

    def __str__(self) -> str:
        return f"{self.model}:{self.version}"


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


def _texts(value: object) -> tuple[str, ...]:
    return tuple(map(str, value)) if isinstance(value, list | tuple) else ()
