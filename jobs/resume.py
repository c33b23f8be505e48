"""Continue runs from their newest checkpoint: on this machine, or by a new Slurm job."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import UserError
from saman.jobs.publishing import FinishedRun, finish_run
from saman.jobs.reconcile import reconcile
from saman.jobs.status import RunState, RunStatus
from saman.jobs.workflows.prerequisites import resolve
from saman.launcher.local import resume_locally
from saman.launcher.planning import Options
from saman.launcher.supervision.run_lock import hold_run
from saman.launcher.supervision.views import View
from saman.runs.folder import RunFolder
from saman.runs.trust.run_trust import require_trusted
from saman.slurm.dependencies import NONE
from saman.slurm.submission.run_jobs import jobs_of, last_queued, record_taken_here
from saman.slurm.submission.submit import Submission, resubmit


@dataclass(frozen=True)
class ResumeRequest:
    """How to continue. ``here``: on this machine, even a run from Slurm; ``ranks``: another number of ranks, here."""

    here: bool = False
    ranks: int | None = None
    partition: str | None = None
    exclude: tuple[str, ...] = ()
    runs_dir: Path = Path("runs")
    models_dir: Path = Path("models")


@dataclass(frozen=True)
class ResumedRun:
    """A run that continues: finished here, submitted again, or skipped for a reason. Exactly one field is set."""

    run: RunFolder
    finished: FinishedRun | None = None
    submission: Submission | None = None
    skipped: str | None = None


def resume_runs(
    runs: Sequence[RunFolder],
    request: ResumeRequest = ResumeRequest(),
    view: Callable[[RunFolder], AbstractContextManager[View | None]] = lambda run: nullcontext(None),
) -> Iterator[ResumedRun]:
    """Continue each run in its own folder, those from Slurm by a new job.

    Args:
        runs: the runs. Of several, those that cannot be continued are skipped; a single run is refused.
        request: where and how.
        view: shows a run that continues here.

    Raises:
        UserError: a run cannot be continued like this.
        EnvironmentLack: the machine lacks something, or Slurm does not answer.
    """
    jobs = [jobs_of(run.events()) for run in runs]
    problems = list(zip(runs, _obstacles(runs), strict=True))
    yield from (ResumedRun(run, skipped=error.problem) for run, error in problems if error is not None)
    for (run, error), known in zip(problems, jobs, strict=True):
        if error is not None:
            continue
        if is_slurms(run) and not request.here:
            yield ResumedRun(run, submission=_resubmitted(run, known, request))
        else:
            with view(run) as shown:
                finished = resume_here(run, request, shown)
            yield ResumedRun(run, finished=finished)


def resume_here(run: RunFolder, request: ResumeRequest, view: View | None = None) -> FinishedRun:
    """Continue a run on this machine, also a run from Slurm, and publish it if its experiment asks for that.

    Args:
        run: The run.
        request: The number of ranks, and the folders of runs and models.
        view: Shows the run; ``None`` shows nothing.

    Raises:
        UserError: The run cannot be continued like this.
        EnvironmentLack: The machine lacks something.
    """
    require_trusted(run, "resume")
    if is_slurms(run):
        record_taken_here(run)
    outcome = resume_locally(run, Options(runs_dir=request.runs_dir), view, request.ranks)
    return finish_run(outcome, request.models_dir)


def _resubmitted(run: RunFolder, known: Sequence[str], request: ResumeRequest) -> Submission:
    """Submit a run again, unless somebody else has submitted it since its jobs were ``known``."""
    if request.ranks is not None:
        raise UserError("-np is for runs on this machine", where=run.id, remedy="add --here, or leave -np out")
    queued = last_queued(run.events())
    after = resolve(queued.after, run.id) if queued is not None and queued.after else NONE
    with hold_run(run):
        newer = [job for job in jobs_of(run.events()) if job not in known]
        if newer:
            raise UserError(f"this run is queued: job {newer[0]}", where=str(run.path), remedy="saman cancel ends it")
        return resubmit(run, request.partition, request.exclude, after)


def is_slurms(run: RunFolder) -> bool:
    """Whether a Slurm job started the run last."""
    return run.slurm.cluster.is_file() and last_queued(run.events()) is not None


def _obstacles(runs: Sequence[RunFolder]) -> Iterable[UserError | None]:
    """List why runs cannot be continued; raises the reason if there is only one run."""
    found: list[UserError | None] = []
    for run, status in zip(runs, reconcile(runs), strict=True):
        error = _obstacle(run, status)
        if error is not None and len(runs) == 1:
            raise error
        found.append(error)
    return found


def _obstacle(run: RunFolder, status: RunStatus) -> UserError | None:
    where = str(run.path)
    if status.state is RunState.COMPLETED:
        return UserError("this run has completed", where=where, remedy="saman run or submit starts a new run")
    if status.state in (RunState.RUNNING, RunState.QUEUED):
        return UserError(f"this run is {status.state}: {status.detail}", where=where, remedy="saman cancel ends it")
    try:
        require_trusted(run, "resume")
    except UserError as error:
        return error
    return None
