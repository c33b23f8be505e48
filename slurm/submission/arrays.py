"""Submits many runs as job arrays: split by the site's limits, in portions as room appears."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import UserError
from saman.runs.events import SUBMITTER, EventKind
from saman.runs.files.removal import remove_with_parents
from saman.runs.files.whole import synced_together, write_whole
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.folder import RunFolder
from saman.runs.paths.runs_folder import array_runs, array_script, new_array_folder
from saman.slurm.dependencies import NONE, Dependency
from saman.slurm.site import client
from saman.slurm.site.backoff import Backoff
from saman.slurm.submission.job_script import render
from saman.slurm.submission.planning import SubmissionPlan, exclude_options, refusal_error
from saman.slurm.submission.refusals import read_refusal
from saman.slurm.submission.run_jobs import jobs_of
from saman.slurm.submission.submit import Submission, record_job, submit_follow_ups

_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


class NoRoomError(UserError):
    """Slurm takes no more jobs of this user for now; some of the runs may have been submitted."""


@dataclass(frozen=True)
class NoRoom:
    """Slurm takes no more jobs of this user for now: ``submitted`` of ``wanted`` runs are in."""

    submitted: int
    wanted: int
    reason: str

    def sentence(self) -> str:
        """The state of the submission, for people."""
        return (
            f"{self.submitted} of {self.wanted} runs are submitted; the others follow as room appears ({self.reason}). "
            "Ctrl-C keeps the submitted runs; the same command submits the others later"
        )


@dataclass(frozen=True)
class _Portion:
    """The submitted runs of a portion with the id of their array, or the reason for which there is no room."""

    submissions: tuple[Submission, ...] = ()
    array: str | None = None
    no_room: str | None = None


def split(plans: Sequence[SubmissionPlan], largest: int) -> list[list[SubmissionPlan]]:
    """Split plans into arrays: the same request in each, and at most ``largest`` runs. Pure; keeps the order."""
    groups: dict[tuple[str, ...], list[SubmissionPlan]] = {}
    for each in plans:
        job = (each.cluster, each.choice.partition.name, each.choice.request, each.components)
        key = (*job, each.spec.name, each.runs_dir)
        groups.setdefault(tuple(map(repr, key)), []).append(each)
    return [group[at : at + largest] for group in groups.values() for at in range(0, len(group), largest)]


def submit_many(
    plans: Sequence[SubmissionPlan],
    make_run: Callable[[SubmissionPlan], RunFolder],
    concurrency: int | None = None,
    wait: Callable[[NoRoom], None] | None = None,
    exclude: Sequence[str] = (),
    dependency: Dependency = NONE,
) -> list[Submission]:
    """Submit many runs as job arrays; each run has its own folder and state, and is a task of an array.

    Args:
        plans: the checked submissions.
        make_run: creates the run folder of a plan.
        concurrency: number of runs that run at a time; ``None`` for no limit. It holds over all arrays: each array
            waits for the end of the array before it.
        wait: told when Slurm takes no more jobs for now, before the submission waits for room; ``None`` raises instead.
        exclude: names of nodes that no run may use.
        dependency: what every run waits for.

    Returns:
        The submitted runs, grouped by array.

    Raises:
        UserError: Slurm refuses an array; the error says how many runs were submitted before it. No folder of a run
            that was not submitted stays.
    """
    if any(plan.components for plan in plans):
        raise UserError(
            "Slurm has no arrays of jobs with components", where="resources.components", remedy="saman submit each run"
        )
    done: list[Submission] = []
    before: str | None = None
    pending = split(plans, client.largest_array())
    backoff = Backoff()
    most: int | None = None  # runs in a portion, if Slurm refused more
    while pending:
        group = pending.pop(0)
        portion, rest = group[: most or len(group)], group[most or len(group) :]
        try:
            options = dependency.options(before if concurrency else None)
            sent = _submit_portion(portion, make_run, concurrency, dependency, options, exclude_options(exclude))
        except UserError as error:
            raise _with_progress(error, len(done)) from None
        if sent.no_room is None:
            done += sent.submissions
            before, backoff = sent.array, Backoff()
            pending[:0] = [rest] if rest else []
            continue
        pending.insert(0, group)
        if len(portion) > 1:
            most = len(portion) // 2
            continue
        state = NoRoom(len(done), len(plans), sent.no_room)
        if wait is None:
            raise _with_progress(NoRoomError(f"Slurm takes no more jobs now: {sent.no_room}"), len(done))
        wait(state)
        time.sleep(backoff.seconds)
        backoff = backoff.grown()
        most = None
    return done


def _with_progress(error: UserError, submitted: int) -> UserError:
    if not submitted:
        return error
    remedy = f"{submitted} runs are submitted; repeat the command later to submit the rest"
    return type(error)(error.problem, where=error.where, remedy=remedy, others=error.others)


def _submit_portion(
    group: Sequence[SubmissionPlan],
    make_run: Callable[[SubmissionPlan], RunFolder],
    concurrency: int | None,
    dependency: Dependency,
    options: Sequence[str],
    excluded: Sequence[str],
) -> _Portion:
    """Submit plans as one array with these options of sbatch, if there is room."""
    first, folder = group[0], new_array_folder(group[0].runs_dir)
    script = array_script(folder)
    runs: list[RunFolder] = []
    with _removed_unless_submitted(runs):
        with explain_write_errors(folder, "the array's folder"):
            folder.mkdir(parents=True)
        with synced_together(folder):
            runs += (make_run(each) for each in group)
            _write_scripts(group, runs, script, concurrency)
        answer = client.submit([*options, *excluded, str(script)])
        if answer.code != 0:
            remove_with_parents(folder)
            refusal = read_refusal(answer.err or answer.out)
            if refusal.passes_with_time:
                for run in runs:
                    remove_with_parents(run.path)
                return _Portion(no_room=refusal.limit.name if refusal.limit else refusal.said)
            raise refusal_error(first, answer)
        array = client.job_id(answer)
        jobs = [f"{array}_{index}" for index in range(len(runs))]
        with synced_together(folder):
            for each, run, job in zip(group, runs, jobs, strict=True):
                record_job(each, run, job, dependency)
    try:
        waiting = [
            submit_follow_ups(each, run, job, excluded) for each, run, job in zip(group, runs, jobs, strict=True)
        ]
    except UserError as error:
        client.scancel([array, *(job for run in runs for job in jobs_of(run.events())[1:])])
        for run in runs:
            run.append(EventKind.CANCELLED, SUBMITTER, reason=error.problem)
        raise
    return _Portion(tuple(Submission(*each) for each in zip(runs, jobs, waiting, strict=True)), array)


def _write_scripts(
    group: Sequence[SubmissionPlan], runs: Sequence[RunFolder], script: Path, concurrency: int | None
) -> None:
    """Write the script of the array with the list of its runs, and the script of each run."""
    write_whole(array_runs(script.parent), "".join(f"{run.path}\n" for run in runs))
    job = group[0].job([run.path for run in runs], script, array=True, concurrency=concurrency)
    write_whole(script, render(job))
    first = runs[0]
    text = render(group[0].job([first.path], first.slurm.script))
    for each, run in zip(group, runs, strict=True):
        # The jobs of an array differ in their run alone; a path of plain characters is the same in every quotation.
        alike = _PLAIN.fullmatch(str(run.path)) and _PLAIN.fullmatch(str(first.path))
        own = text.replace(str(first.path), str(run.path)) if alike else render(each.job([run.path], run.slurm.script))
        write_whole(run.slurm.script, own)


@contextlib.contextmanager
def _removed_unless_submitted(runs: list[RunFolder]) -> Iterator[None]:
    """Remove the folders of runs that Slurm did not take."""
    try:
        yield
    except BaseException:
        for run in runs:
            if not jobs_of(run.events()):
                remove_with_parents(run.path)
        raise
