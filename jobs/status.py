"""The status of runs: their folders' records, combined with Slurm's view of their jobs. Reading changes nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Any

from saman.configs.errors import ExitCode, UserError
from saman.configs.terminal_text import clean_text
from saman.configs.units import format_duration
from saman.jobs.progress import SILENT_SECONDS, AttemptProgress, read_progress
from saman.jobs.publishing import last_publication, publication_pending
from saman.jobs.slurm_view import SlurmView, ask_slurm
from saman.launcher.restarts.decision import waits_to_restart
from saman.launcher.supervision.run_lock import has_lost_supervisor
from saman.runs.events import SUPERVISOR, Event, EventKind, State, find_last, state_of
from saman.runs.find import DAMAGE
from saman.runs.folder import RunFolder
from saman.runs.growing_files import last_text
from saman.runs.records.run_events import Creation, Prerequisite, Restarting, RunEnd, newest_event
from saman.runs.telemetry.goodput import Goodput, measure_goodput
from saman.slurm.dependencies import unknown_ends, unmet, waits_for
from saman.slurm.site.job_states import JobState
from saman.slurm.site.pending import pending_reason
from saman.slurm.submission.run_jobs import jobs_of, last_queued

LATE_EVENT_SECONDS = 20.0  # how late a job's last events may reach this machine's view of the file system
SENTENCE_BYTES = 4096  # of a sentence that the job script left
NEVER_BEGAN_SECONDS = 3.0  # the same for a run without any sign of a start


class RunState(str, Enum):
    """The state of a run for its user: that of the folder, vanished or damaged."""

    CREATED = "created"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    VANISHED = "vanished"  # recorded as running, but without a job, a process or a sign of life
    DAMAGED = "damaged"  # a file of the run folder cannot be understood

    def __str__(self) -> str:
        return self.value


_AT_REST = frozenset(
    {RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED, RunState.PREEMPTED, RunState.VANISHED, RunState.DAMAGED}
)
_USUAL_EXIT = {
    RunState.COMPLETED: ExitCode.DONE,
    RunState.FAILED: ExitCode.RUN_FAILED,
    RunState.CANCELLED: ExitCode.INTERRUPTED,
}


@dataclass(frozen=True)
class RunStatus:
    """The status of a run. ``detail`` is a sentence for people; ``run`` is the path of its folder."""

    run: str
    id: str
    name: str
    state: RunState
    detail: str
    attempt: int
    job: str | None = None
    cluster: str | None = None
    expected_start: float | None = None
    progress: AttemptProgress | None = None
    exit_code: int | None = None
    first_failing_rank: int | None = None
    step: str | None = None  # of a workflow, as NAME/STEP
    goodput: Goodput | None = None

    @property
    def over(self) -> bool:
        """Whether the run has reached its final state: waiting longer changes nothing."""
        return self.state in _AT_REST

    @property
    def succeeded(self) -> bool:
        """Whether the run completed, and was published if its experiment asks for that."""
        return self.state is RunState.COMPLETED and not self.exit_code

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "state": self.state.value}


def read_status(runs: Sequence[RunFolder]) -> list[RunStatus]:
    """Read the status of each run, with a single question to each of squeue and sacct for all of them.

    Writes nothing. ``saman.jobs.reconcile`` records ends known only to Slurm. A damaged run folder gets the state
    ``damaged``, and does not hide the other runs.
    """
    events = [run.events() for run in runs]
    jobs = [job for run, some in zip(runs, events, strict=True) for job in _unfinished_jobs(run, some)]
    view = ask_slurm(jobs)
    now = time.time()
    return [_status_or_damage(run, some, view, now) for run, some in zip(runs, events, strict=True)]


def _unfinished_jobs(run: RunFolder, events: Sequence[Event]) -> list[str]:
    with contextlib.suppress(*DAMAGE):
        return jobs_of(events) if _may_have_a_job(run, events) else []
    return []


def _status_or_damage(run: RunFolder, events: Sequence[Event], view: SlurmView, now: float) -> RunStatus:
    try:
        return _with_goodput(run, events, status_of(run, events, view, now), now)
    except DAMAGE as error:
        problem = error.one_line() if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        detail = f"a file of the run folder is damaged: {problem}"
        return RunStatus(str(run.path), run.id, run.experiment_name, RunState.DAMAGED, detail, attempt=0)


def _with_goodput(run: RunFolder, events: Sequence[Event], status: RunStatus, now: float) -> RunStatus:
    """The status with the goodput of a run that is training, or has been; in words if attempts failed."""
    if status.state is RunState.RUNNING and status.progress is not None:
        goodput = measure_goodput(run, events, now)
    else:
        summary = run.summary() if status.attempt else None
        goodput = None if summary is None else Goodput.from_json(summary.more.get("goodput"))
    if goodput is None:
        return status
    words = (status.detail, goodput.words) if goodput.failures else (status.detail,)
    return replace(status, goodput=goodput, detail="; ".join(filter(None, words)))


def _may_have_a_job(run: RunFolder, events: Sequence[Event]) -> bool:
    """Whether a job of the run may still be queued or running."""
    state = state_of(events)
    return publication_pending(run, events) if state is State.COMPLETED else state is not State.CANCELLED


def status_of(run: RunFolder, events: Sequence[Event], view: SlurmView, now: float) -> RunStatus:
    """Combine a run's folder and Slurm's view into its status; writes nothing.

    Args:
        run: The run.
        events: Its events, oldest first.
        view: Slurm's answer about its jobs.
        now: Unix time in seconds.
    """
    state = state_of(events)
    queued = last_queued(events)
    progress = read_progress(run, now) if state is State.RUNNING else None
    base = RunStatus(
        run=str(run.path), id=run.id, name=run.experiment_name, state=RunState(state.value), detail="",
        attempt=_attempt(run, events, state),
        job=queued.job if queued else None,
        cluster=queued.cluster if queued else None,
        step=Creation.find(events[:1]).step,
    )  # fmt: skip
    if state is State.COMPLETED and publication_pending(run, events):
        busy = [job for job in jobs_of(events) if view.state(job) in (JobState.RUNNING, JobState.ENDING)]
        if busy:
            return replace(base, state=RunState.RUNNING, job=busy[0], detail=f"job {busy[0]}: publishing")
    if state.ended and not _still_deciding(state, events, view):
        return _ended(base, run, events)
    if queued is None:
        return _local(base, run, state, progress)
    job, jobs = queued.job, jobs_of(events)
    slurm = view.state(job)
    alive = next((other for other in jobs if view.state(other) in (JobState.PENDING, JobState.RUNNING)), None)
    if alive is not None and alive != job:
        job, slurm = alive, view.state(alive)
    quiet = now - (events[-1].time if events else now)
    base = base if base.job == job else replace(base, job=job)
    return _explained(run, _with_job(base, queued.after, state, progress, slurm, view, quiet))


def _attempt(run: RunFolder, events: Sequence[Event], state: State) -> int:
    """The number of the newest attempt; 0 before the first."""
    if state.ended or state in (State.CREATED, State.QUEUED):  # the events suffice; a folder less to list for each run
        return max((event.attempt or 0 for event in events), default=0)
    newest = run.last_attempt()
    return newest.number if newest else 0


def _explained(run: RunFolder, status: RunStatus) -> RunStatus:
    """The status with the step of the site's set-up for which the job ended before anything began."""
    if status.state is not RunState.FAILED or status.exit_code != ExitCode.ENVIRONMENT:
        return status
    sentence = clean_text(last_text(run.slurm.setup_failure, SENTENCE_BYTES).strip())
    return replace(status, detail=f"job {status.job}: {sentence.removeprefix('saman: ')}") if sentence else status


def _still_deciding(state: State, events: Sequence[Event], view: SlurmView) -> bool:
    """Whether the job is alive after its ranks failed: it may find that a node is gone, and continue."""
    queued = last_queued(events)
    end = newest_event(events, state.value)
    by_supervisor = state is State.FAILED and end is not None and end.who == SUPERVISOR
    return by_supervisor and queued is not None and view.state(queued.job) in (
        JobState.RUNNING, JobState.ENDING
    )  # fmt: skip


def _with_job(
    base: RunStatus,
    after: Sequence[Prerequisite],
    state: State,
    progress: AttemptProgress | None,
    slurm: JobState,
    view: SlurmView,
    quiet: float,
) -> RunStatus:
    job = str(base.job)
    if slurm is JobState.PENDING:
        return _pending(base, view, after)
    if slurm is JobState.RUNNING:
        if state is State.FAILED:
            return replace(base, state=RunState.RUNNING, detail=f"job {job}: diagnosing rank failure")
        if state is State.RUNNING and progress is not None:
            return replace(base, detail=progress.sentence(), progress=progress)
        return replace(base, state=RunState.RUNNING, detail=f"job {job} is starting")
    cancelled_early = slurm is JobState.CANCELLED and state is State.QUEUED
    late = NEVER_BEGAN_SECONDS if cancelled_early else LATE_EVENT_SECONDS
    if slurm is JobState.ENDING or (slurm.ended and quiet < late):
        return replace(base, state=RunState.RUNNING, detail=f"job {job} is ending", progress=progress)
    if slurm.ended:
        return _ended_by_slurm(base, after, state, slurm, view)
    return _unknown(base, progress, view, quiet)


def _pending(base: RunStatus, view: SlurmView, after: Sequence[Prerequisite]) -> RunStatus:
    entry = view.queued.get(str(base.job))
    why = pending_reason(entry.reason).text if entry else "waits"
    if entry and entry.reason.startswith("Dependency"):
        broken = unmet(after)
        why = f"will never start: {broken}" if broken else waits_for(after) or why
    again = "" if base.attempt == 0 else f"will continue with attempt {base.attempt + 1}; "
    start = entry.start if entry else None
    detail = f"{again}job {base.job} {why}" + (f"; expected to start {_clock(start)}" if start else "")
    return replace(base, state=RunState.QUEUED, detail=detail, expected_start=start)


def _ended_by_slurm(
    base: RunStatus, after: Sequence[Prerequisite], state: State, slurm: JobState, view: SlurmView
) -> RunStatus:
    """The end of a job that recorded no end in its run folder."""
    job = str(base.job)
    recorded = view.recorded.get(job) if view.recorded else None
    log = "see slurm/job.out in the run folder"
    resume = f"`saman resume {base.id}` continues from the newest checkpoint"
    began = "before training began" if state is State.QUEUED else "before the run recorded its end"
    ends = {
        JobState.CANCELLED: (RunState.CANCELLED, f"job {job} was cancelled; {resume}"),
        JobState.TIMEOUT: (RunState.FAILED, f"job {job} reached its time limit before a checkpoint was done; {resume}"),
        JobState.NODE_FAIL: (RunState.FAILED, f"job {job} lost a node and was not requeued; {resume}"),
        JobState.PREEMPTED: (RunState.FAILED, f"job {job} was preempted and not requeued; {resume}"),
        JobState.FAILED: (RunState.FAILED, f"job {job} failed {began}; {log}"),
        JobState.COMPLETED: (RunState.FAILED, f"job {job} ended {began}; {log}"),
    }
    if state is State.PREEMPTED and slurm in (JobState.FAILED, JobState.COMPLETED):
        # It checkpointed and exited as planned, but no job continued it.
        detail = f"stopped at a checkpoint and was not requeued; {resume}"
        return replace(base, state=RunState.PREEMPTED, detail=detail)
    if slurm is JobState.CANCELLED and state is State.QUEUED and (broken := unmet(after) or unknown_ends(after)):
        return replace(base, state=RunState.CANCELLED, detail=f"removed from the queue: {broken}")
    end, detail = ends[slurm]
    return replace(base, state=end, detail=detail, exit_code=recorded.code if recorded else None)


def _unknown(base: RunStatus, progress: AttemptProgress | None, view: SlurmView, quiet: float) -> RunStatus:
    if progress is not None and progress.silent_seconds < SILENT_SECONDS:
        why = "" if view.reachable else " (Slurm cannot be asked from here)"
        return replace(base, detail=progress.sentence() + why, progress=progress)
    if not view.reachable:
        return replace(base, detail=f"job {base.job}: Slurm cannot be asked from here; state by the run folder")
    if quiet < SILENT_SECONDS:
        return replace(base, detail=f"job {base.job} is not listed by Slurm (not yet, or no longer)", progress=progress)
    last = f"last event {format_duration(quiet)} ago"
    detail = f"Slurm no longer knows job {base.job}; {last}; `saman resume {base.id}` continues"
    return replace(base, state=RunState.VANISHED, detail=detail, progress=progress)


def _local(base: RunStatus, run: RunFolder, state: State, progress: AttemptProgress | None) -> RunStatus:
    if state is State.RUNNING and has_lost_supervisor(run):
        detail = f"its supervisor on this machine has ended; `saman resume {base.id}` continues"
        return replace(base, state=RunState.VANISHED, detail=detail, progress=progress)
    if state is State.RUNNING and waits_to_restart(run.events()):
        restart = find_last(Restarting.from_event, run.events())
        return replace(base, detail=restart.reason if restart else "")
    if state is State.RUNNING and progress is not None:
        if progress.silent_seconds < SILENT_SECONDS:
            return replace(base, detail=progress.sentence(), progress=progress)
        detail = f"no sign of life for {format_duration(progress.silent_seconds)}; `saman resume {base.id}` continues"
        return replace(base, state=RunState.VANISHED, detail=detail, progress=progress)
    if state is State.PREEMPTED:
        return replace(base, detail=f"stopped at a checkpoint; `saman resume {base.id}` continues")
    return replace(base, detail="has not begun" if state is State.CREATED else "")


def _ended(base: RunStatus, run: RunFolder, events: Sequence[Event]) -> RunStatus:
    summary = run.summary()
    event = newest_event(events, base.state.value)
    end = RunEnd() if event is None else RunEnd.from_event(event)
    words, code = list(end.texts), end.exit_code
    if code is None and summary is not None:
        code = summary.exit_code
    if base.state is RunState.COMPLETED:
        metrics = summary.metrics if summary else {}
        words = [f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, (int, float))]
        published = last_publication(events)
        if published is not None and published.kind == EventKind.PUBLISH_FAILED:
            words.append(f"publishing failed: {'; '.join(RunEnd.from_event(published).texts)}")
            words.append(f"`saman models publish {base.id}` tries again")
            code = int(ExitCode.RUN_FAILED)
    if code is None:
        code = int(_USUAL_EXIT[base.state])
    return replace(base, detail="; ".join(words), exit_code=code, first_failing_rank=next(iter(end.ranks), None))


def _clock(moment: float) -> str:
    form = "%H:%M" if moment - time.time() < 12 * 3600 else "%a %d %b %H:%M"
    return time.strftime(form, time.localtime(moment))
