"""After a run: publish its model, and deliver the run to the trackers that its experiment names.

``python -m saman.jobs.publishing RUN MODELS_DIR`` does the same from inside a Slurm job.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saman.configs.errors import EnvironmentLack, ExitCode, UserError
from saman.runs.events import PUBLISHER, Event, EventKind, State
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import CreatedExperiment
from saman.slurm.submission.run_jobs import last_queued

if TYPE_CHECKING:
    from saman.launcher.supervision.outcome import Outcome

WHO = PUBLISHER


class PublicationState(Enum):
    """The result of publishing after a run."""

    NOT_ASKED = "not asked"
    PUBLISHED = "published"
    REFUSED = "not_published"  # by publish.if or a gate: a decision, not a failure
    FAILED = "publish_failed"


@dataclass(frozen=True)
class Publication:
    """The result of publishing a run: the version, or the reason against it."""

    state: PublicationState
    model: str = ""
    version: int = 0
    path: Path = Path()
    reason: str = ""
    exit_code: ExitCode = ExitCode.DONE

    def to_json(self) -> dict[str, Any]:
        """``{"published": …}``, ``{"not_published": reason}``, ``{"publish_failed": reason}``, or nothing."""
        if self.state is PublicationState.NOT_ASKED:
            return {}
        if self.state is PublicationState.PUBLISHED:
            return {"published": {"model": self.model, "version": self.version, "path": str(self.path)}}
        return {self.state.value: self.reason}


@dataclass(frozen=True)
class FinishedRun:
    """An attempt on this machine and what followed it. ``waiting`` names servers that did not take the run yet."""

    outcome: Outcome
    publication: Publication
    waiting: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """Exit status of the command: the run's, else that of a failed publication."""
        return int(self.outcome.exit_code or self.publication.exit_code)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        outcome, summary = self.outcome, self.outcome.run.summary()
        return {
            "run": str(outcome.run.path),
            "state": outcome.state.value,
            "exit_code": self.exit_code,
            "message": outcome.message,
            "summary": summary.to_json() if summary else {},
            **self.publication.to_json(),
        }


def finish_run(outcome: Outcome, models_dir: Path) -> FinishedRun:
    """Publish a completed run and deliver it to trackers, as its experiment asks."""
    return FinishedRun(outcome, publish_if_asked(outcome.run, models_dir), show_if_asked(outcome.run))


def publish_if_asked(run: RunFolder, models_dir: Path) -> Publication:
    """After a run's job, make its export the next version of its model, if its experiment has ``publish``.

    A failure is recorded in the run folder, and returned; nothing is raised for it.
    """
    if run.is_script or run.state is not State.COMPLETED or run.experiment().publish is None:
        return Publication(PublicationState.NOT_ASKED)
    from saman.registry.evaluation.gates import PublishRefusal
    from saman.registry.lifecycle.publish import publish

    try:
        version = publish(run, models_dir)
    except PublishRefusal as refusal:
        return Publication(PublicationState.REFUSED, reason=refusal.reason)
    except UserError as error:
        return _failed(run, str(error), error.exit_code)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _failed(run, f"{where}{error.strerror or error}", EnvironmentLack.exit_code)
    return Publication(PublicationState.PUBLISHED, model=version.model, version=version.number, path=version.path)


def _failed(run: RunFolder, reason: str, code: ExitCode) -> Publication:
    with contextlib.suppress(OSError):
        run.append(EventKind.PUBLISH_FAILED, WHO, reason=reason, exit_code=int(code))
    return Publication(PublicationState.FAILED, reason=reason, exit_code=code)


def show_if_asked(run: RunFolder) -> tuple[str, ...]:
    """After publishing, show the run in its trackers, if its experiment has ``tracking``.

    Returns:
        Why a tracker did not take the run yet. The run is delivered with the next run, or by ``saman track``.
    """
    from saman.registry.tracking.delivery import track_if_asked

    return tuple(delivery.problem for delivery in track_if_asked(run) if delivery.problem)


_PUBLICATIONS = (EventKind.PUBLISHED, EventKind.NOT_PUBLISHED, EventKind.PUBLISH_FAILED)


def last_publication(events: Sequence[Event]) -> Event | None:
    """The event of the newest publication, refusal or failure since the last attempt began."""
    for event in reversed(events):
        if event.kind in _PUBLICATIONS:
            return event
        if event.kind == EventKind.ATTEMPT_STARTED:
            return None
    return None


def publication_pending(run: RunFolder, events: Sequence[Event]) -> bool:
    """Whether publishing is outstanding: the experiment asks for it, and no result is recorded."""
    publishes = CreatedExperiment.find(events).publishes
    if publishes is False or last_queued(events) is None or last_publication(events) is not None or run.is_script:
        return False
    if publishes:
        return True
    with contextlib.suppress(UserError):
        return run.experiment().publish is not None
    return False


def main(arguments: Sequence[str]) -> int:
    """Publish a completed run and deliver it to trackers, from inside its job.

    Returns:
        0, also if ``publish.if`` or a gate decides against the version; 1 if publishing failed.
    """
    if len(arguments) != 2:
        print("usage: python -m saman.jobs.publishing RUN MODELS_DIR", file=sys.stderr)
        return ExitCode.BAD_REQUEST
    run = RunFolder.open(Path(arguments[0]))
    publication = publish_if_asked(run, Path(arguments[1]))
    if (sentence := describe_publication(publication)) is not None:
        print(f"saman: {sentence}", flush=True)
    for problem in show_if_asked(run):
        print(f"saman: tracking waits, nothing is lost: {problem}", flush=True)
    return ExitCode.RUN_FAILED if publication.state is PublicationState.FAILED else ExitCode.DONE


def describe_publication(publication: Publication) -> str | None:
    """A sentence on the publication; ``None`` if nothing was to be published."""
    if publication.state is PublicationState.PUBLISHED:
        return f"published as {publication.model} version {publication.version}: {publication.path}"
    if publication.state is PublicationState.REFUSED:
        return f"not published: {publication.reason}"
    return f"publishing failed: {publication.reason}" if publication.state is PublicationState.FAILED else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
