"""Where runs stand: what their folders say, with what Slurm says of their jobs. Also for runs without a job."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from saman.configs.errors import EnvironmentLack, ExitCode
from saman.jobs.progress import SILENT_SECONDS, AttemptProgress, ago, read_progress
from saman.runs.events import Event, State, state_of
from saman.runs.folder import RunFolder
from saman.slurm.site import client
from saman.slurm.site.job_states import JobState
from saman.slurm.site.pending import pending_reason
from saman.slurm.submission.run_jobs import jobs_of, last_queued

SETTLING_SECONDS = 20.0  # a job's last events may reach this machine's view of the file system so much later
NEVER_BEGAN_SECONDS = 3.0  # the same for a run that has left no sign of a start
_VANISHED = "vanished"
_USUAL = {"completed": ExitCode.DONE, "failed": ExitCode.RUN_FAILED, "cancelled": ExitCode.INTERRUPTED}


@dataclass(frozen=True)
class RunStatus:
    """Where one run stands. ``state`` is that of the folder, or ``vanished``; ``detail`` a sentence for people."""

    run: str
    id: str
    name: str
    state: str
    detail: str
    attempt: int
    job: str | None = None
    cluster: str | None = None
    expected_start: float | None = None
    progress: AttemptProgress | None = None
    exit_code: int | None = None
    first_failing_rank: int | None = None

    @property
    def over(self) -> bool:
        """Whether waiting longer changes nothing."""
        return self.state in ("completed", "failed", "cancelled", "preempted", _VANISHED)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class SlurmView:
    """What Slurm says of all jobs asked for. ``reachable`` is false where it cannot be asked from here."""

    queued: Mapping[str, client.QueuedJob]
    recorded: Mapping[str, client.RecordedJob] | None
    reachable: bool

    def state(self, job: str) -> JobState:
        """The controller's word counts, then accounting's; accounting may lag behind the end of a job."""
        if job in self.queued:
            return self.queued[job].state
        if self.recorded and job in self.recorded:
            state = self.recorded[job].state
            # Not in the controller any more, and not yet closed in accounting.
            return JobState.ENDING if not state.ended else state
        return JobState.UNKNOWN


def look(runs: Sequence[RunFolder], settle: bool = True) -> list[RunStatus]:
    """Where each run stands, with one question to each of squeue and sacct for all of them.

    With ``settle``, an end that Slurm alone knows of is written into the run folder, so that others see it too.
    """
    events = [run.events() for run in runs]
    open_ended = [one for one in events if state_of(one) not in (State.COMPLETED, State.CANCELLED)]
    jobs = {job for one in open_ended for job in jobs_of(one)}
    view = slurm_view(jobs)
    now = time.time()
    found = []
    for run, one in zip(runs, events, strict=True):
        status = status_of(run, one, view, now)
        if settle:
            _settle(run, one, status)
        found.append(status)
    return found


def slurm_view(jobs: Iterable[str]) -> SlurmView:
    """Ask Slurm for these jobs; accounting only for those that have ended or that the controller no longer knows."""
    wanted = set(jobs)
    if not wanted or not client.available("squeue"):
        return SlurmView({}, None, reachable=False)
    try:
        queued = client.queue()
    except EnvironmentLack:
        return SlurmView({}, client.accounting(wanted), reachable=False)
    over = {job for job in wanted if job not in queued or queued[job].state.ended}
    return SlurmView(queued, client.accounting(over) if over else None, reachable=True)


def status_of(run: RunFolder, events: Sequence[Event], view: SlurmView, now: float) -> RunStatus:
    """Where a run stands by its folder and by ``view``."""
    state = state_of(events)
    queued = last_queued(events)
    attempts = run.attempts()
    progress = read_progress(run, now) if state is State.RUNNING else None
    base = RunStatus(
        run=str(run.path), id=run.id, name=run.experiment_name, state=state.value, detail="",
        attempt=attempts[-1].number if attempts else 0,
        job=str(queued.facts["job"]) if queued else None,
        cluster=str(queued.facts.get("cluster")) if queued else None,
    )  # fmt: skip
    if state.ended and not _still_deciding(state, events, view):
        return _ended(base, run, events)
    if queued is None:
        return _local(base, state, progress)
    job, jobs = str(queued.facts["job"]), jobs_of(events)
    slurm = view.state(job)
    alive = next((one for one in jobs if view.state(one) in (JobState.PENDING, JobState.RUNNING)), None)
    if alive is not None and alive != job:
        job, slurm = alive, view.state(alive)
    return _with_job(base, state, progress, job, slurm, view, now - (events[-1].time if events else now))


def _still_deciding(state: State, events: Sequence[Event], view: SlurmView) -> bool:
    """Whether the job still lives after its ranks failed: it may find that a node is gone, and go on."""
    queued = last_queued(events)
    end = next((event for event in reversed(events) if event.kind == state.value), None)
    by_supervisor = state is State.FAILED and end is not None and end.who == "supervisor"
    return by_supervisor and queued is not None and view.state(str(queued.facts["job"])) in (
        JobState.RUNNING, JobState.ENDING
    )  # fmt: skip


def _with_job(
    base: RunStatus,
    state: State,
    progress: AttemptProgress | None,
    job: str,
    slurm: JobState,
    view: SlurmView,
    quiet: float,
) -> RunStatus:
    entry = view.queued.get(job)
    base = replace(base, job=job)
    if slurm is JobState.PENDING:
        why = pending_reason(entry.reason).text if entry else "waits"
        again = "" if base.attempt == 0 else f"will go on with attempt {base.attempt + 1}; "
        start = entry.start if entry else None
        detail = f"{again}job {job} {why}" + (f"; expected to start {_clock(start)}" if start else "")
        return replace(base, state="queued", detail=detail, expected_start=start)
    if slurm is JobState.RUNNING:
        if state is State.FAILED:
            return replace(base, state="running", detail=f"job {job} finds out why its ranks ended")
        if state is State.RUNNING and progress is not None:
            return replace(base, detail=progress.sentence(), progress=progress)
        return replace(base, state="running", detail=f"job {job} is starting")
    settling = NEVER_BEGAN_SECONDS if slurm is JobState.CANCELLED and state is State.QUEUED else SETTLING_SECONDS
    if slurm is JobState.ENDING or (slurm.ended and quiet < settling):
        return replace(base, state="running", detail=f"job {job} is ending", progress=progress)
    if slurm.ended:
        return replace(base, **_slurm_end(base, state, job, slurm, view))
    return _unknown(base, progress, job, view, quiet)


def _slurm_end(base: RunStatus, state: State, job: str, slurm: JobState, view: SlurmView) -> dict[str, Any]:
    """The end of a job that left no end in its run folder."""
    recorded = view.recorded.get(job) if view.recorded else None
    code = recorded.code if recorded else None
    log = "slurm/job.out in the run folder has its last words"
    resume = f"`saman resume {base.id}` continues from the newest checkpoint"
    began = "before training began" if state is State.QUEUED else "before the run could say how it ended"
    texts = {
        JobState.CANCELLED: ("cancelled", f"job {job} was cancelled; {resume}"),
        JobState.TIMEOUT: ("failed", f"job {job} reached its time limit before a checkpoint was done; {resume}"),
        JobState.NODE_FAIL: ("failed", f"job {job} lost a node and was not requeued; {resume}"),
        JobState.PREEMPTED: ("failed", f"job {job} was preempted and not requeued; {resume}"),
        JobState.FAILED: ("failed", f"job {job} failed {began}; {log}"),
        JobState.COMPLETED: ("failed", f"job {job} ended {began}; {log}"),
    }
    name, detail = texts[slurm]
    if state is State.PREEMPTED and slurm in (JobState.FAILED, JobState.COMPLETED):
        # It exited as it should after its checkpoint, and nothing took it up again.
        return {"state": "preempted", "detail": f"stopped at a checkpoint and was not requeued; {resume}"}
    return {"state": name, "detail": detail, "exit_code": code}


def _unknown(base: RunStatus, progress: AttemptProgress | None, job: str, view: SlurmView, quiet: float) -> RunStatus:
    if progress is not None and progress.silent_seconds < SILENT_SECONDS:
        why = "" if view.reachable else " (Slurm cannot be asked from here)"
        return replace(base, detail=progress.sentence() + why, progress=progress)
    if not view.reachable:
        return replace(base, detail=f"job {job}: Slurm cannot be asked from here; this is what the run folder says")
    if quiet < SILENT_SECONDS:
        return replace(base, detail=f"job {job} is not listed by Slurm yet, or no longer", progress=progress)
    detail = f"Slurm no longer knows job {job}; the run was last heard of {ago(quiet)} ago; `saman resume {base.id}`"
    return replace(base, state=_VANISHED, detail=detail, progress=progress)


def _local(base: RunStatus, state: State, progress: AttemptProgress | None) -> RunStatus:
    if state is State.RUNNING and progress is not None:
        if progress.silent_seconds < SILENT_SECONDS:
            return replace(base, detail=progress.sentence(), progress=progress)
        detail = f"no sign of life for {ago(progress.silent_seconds)}; `saman resume {base.id}` continues"
        return replace(base, state=_VANISHED, detail=detail, progress=progress)
    if state is State.PREEMPTED:
        return replace(base, detail=f"stopped at a checkpoint; `saman resume {base.id}` continues")
    return replace(base, detail="has not begun" if state is State.CREATED else "")


def _ended(base: RunStatus, run: RunFolder, events: Sequence[Event]) -> RunStatus:
    summary = run.summary()
    end = next(event for event in reversed(events) if event.kind == base.state)
    ranks = end.facts.get("ranks")
    rank = ranks[0] if isinstance(ranks, list) and ranks else None
    words = [str(end.facts[key]) for key in ("message", "reason") if end.facts.get(key)]
    if base.state == "completed":
        metrics = summary.metrics if summary else {}
        words = [f"{name} {value:.4g}" for name, value in metrics.items() if isinstance(value, (int, float))]
    code = end.facts.get("exit_code", summary.exit_code if summary else None)
    if code is None:
        code = int(_USUAL[base.state])
    return replace(base, detail="; ".join(words), exit_code=code, first_failing_rank=rank)


def _settle(run: RunFolder, events: Sequence[Event], status: RunStatus) -> None:
    """Write an end that only Slurm knows of."""
    ended = status.state in ("failed", "cancelled")
    if ended and not state_of(events).ended:
        with contextlib.suppress(OSError):
            code = {} if status.exit_code is None else {"exit_code": status.exit_code}
            run.append(status.state, "slurm", reason=status.detail, job=status.job, **code)


def _clock(moment: float) -> str:
    form = "%H:%M" if moment - time.time() < 12 * 3600 else "%a %d %b %H:%M"
    return time.strftime(form, time.localtime(moment))
