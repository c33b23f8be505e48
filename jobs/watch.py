"""Polls the status of runs: from their folders, and from Slurm only where the folders do not tell."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from saman.jobs.progress import SILENT_SECONDS, read_progress
from saman.jobs.publishing import publication_pending
from saman.jobs.slurm_view import SlurmView, ask_slurm
from saman.jobs.status import RunStatus, status_of
from saman.runs.events import SUPERVISOR, Event, State, state_of
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import newest_event
from saman.slurm.site.backoff import FIRST_SECONDS, Backoff
from saman.slurm.submission.run_jobs import jobs_of

_NOTHING_ASKED = SlurmView({}, None, reachable=True)


class RunWatch:
    """The shared poller: the statuses of the same runs, look after look.

    A look reads the run folders. Slurm is asked only about runs whose folder does not tell: queued runs, and runs that
    stopped without a recorded end. A question is repeated at once after a change in a folder, and else with a wait that
    grows to a minute.

    Args:
        runs: the runs.
        ask: asks about jobs; ``None`` asks Slurm.
        clock: seconds for the waits.
    """

    def __init__(
        self,
        runs: Sequence[RunFolder],
        ask: Callable[[Iterable[str]], SlurmView] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runs, self._ask, self._clock = runs, ask or ask_slurm, clock
        self._view = _NOTHING_ASKED
        self._asked_at: float | None = None
        self._asked_about: dict[str, int] = {}  # run -> its events at the last question
        self._wait = Backoff()
        self._last: dict[str, RunStatus] = {}

    def follow(self, runs: Sequence[RunFolder]) -> None:
        """Look at these runs from now on; what Slurm said about those among them stays known."""
        self._runs = runs

    def forget(self, run: RunFolder) -> None:
        """Forget the last status of a run that has been started again since."""
        self._last.pop(str(run.path), None)

    def look(self) -> list[RunStatus]:
        """Read the status of each run now."""
        events = [run.events() for run in self._runs]
        now = time.time()
        open_runs = {
            str(run.path): some
            for run, some in zip(self._runs, events, strict=True)
            if jobs_of(some) and not folder_tells(run, some, now)
        }
        self._ask_if_due(open_runs)
        found = [self._status(run, some, open_runs, now) for run, some in zip(self._runs, events, strict=True)]
        self._last = {status.run: status for status in found}
        return found

    def _status(self, run: RunFolder, events: list[Event], open_runs: dict[str, list[Event]], now: float) -> RunStatus:
        path = str(run.path)
        if path not in open_runs:
            return status_of(run, events, _NOTHING_ASKED, now)
        if self._asked_about.get(path) != len(events) and path in self._last:
            return self._last[path]  # Slurm's answer is older than the folder's newest event
        return status_of(run, events, self._view, now)

    def _ask_if_due(self, open_runs: dict[str, list[Event]]) -> None:
        known = {run: len(events) for run, events in open_runs.items()}
        changed = any(self._asked_about.get(run) != count for run, count in known.items())
        if changed:
            self._wait = Backoff()
        waited = None if self._asked_at is None else self._clock() - self._asked_at
        if not known or (waited is not None and waited < (FIRST_SECONDS if changed else self._wait.seconds)):
            return
        jobs = [job for events in open_runs.values() for job in jobs_of(events)]
        before, self._view = self._view, self._ask(jobs)
        self._asked_at, self._asked_about = self._clock(), known
        same = all(before.state(job) is self._view.state(job) for job in jobs)
        self._wait = self._wait.grown() if same else Backoff().grown()


def folder_tells(run: RunFolder, events: Sequence[Event], now: float) -> bool:
    """Whether the folder alone tells the state of a run: it ended, or its ranks show signs of life.

    Args:
        run: the run.
        events: its events, oldest first.
        now: Unix time in seconds.
    """
    state = state_of(events)
    if state is State.RUNNING:
        progress = read_progress(run, now)
        return progress is not None and progress.silent_seconds < SILENT_SECONDS / 2
    if state is State.COMPLETED:
        return not publication_pending(run, events)
    end = newest_event(events, state.value)
    return state.ended and not (state is State.FAILED and end is not None and end.who == SUPERVISOR)
