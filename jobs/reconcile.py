"""Bring run folders up to date with Slurm, and wait for runs."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Sequence

from saman.jobs.status import RunState, RunStatus, read_status
from saman.jobs.watch import RunWatch
from saman.runs.events import EventKind, state_of
from saman.runs.folder import RunFolder
from saman.runs.trust.run_trust import is_trusted

_log = logging.getLogger(__name__)

_ENDS = {RunState.FAILED: EventKind.FAILED, RunState.CANCELLED: EventKind.CANCELLED}


def reconcile(runs: Sequence[RunFolder]) -> list[RunStatus]:
    """Read the status of each run, and record in its folder an end that only Slurm knows.

    A folder that cannot be written stays as it is, and so does another user's, whose links may lead anywhere. The
    status is returned all the same.
    """
    return record_ends(runs, read_status(runs))


def record_ends(runs: Sequence[RunFolder], statuses: list[RunStatus]) -> list[RunStatus]:
    """Record in each folder an end that only Slurm knows, as ``reconcile`` does; returns ``statuses``."""
    for run, status in zip(runs, statuses, strict=True):
        if status.state in _ENDS and not state_of(run.events()).ended and is_trusted(run):
            code = {} if status.exit_code is None else {"exit_code": status.exit_code}
            _log.info("%s: its job has ended: %s", run.id, status.detail)
            with contextlib.suppress(OSError):
                run.append(_ENDS[status.state], "slurm", reason=status.detail, job=status.job, **code)
    return statuses


def wait_for_runs(
    runs: Sequence[RunFolder], timeout_seconds: float | None = None, every_seconds: float = 5.0
) -> list[RunStatus]:
    """Wait until every run has ended, recording ends that only Slurm knows.

    Args:
        runs: the runs.
        timeout_seconds: give up after so long; ``None`` waits for ever.
        every_seconds: time between two looks at the run folders; Slurm is asked less often (``RunWatch``).

    Returns:
        The status of each run at the last look; after a timeout some are not ``over``.
    """
    end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    watch = RunWatch(runs)
    statuses = record_ends(runs, watch.look())
    while not all(status.over for status in statuses) and (end is None or time.monotonic() < end):
        time.sleep(every_seconds if end is None else max(0.0, min(every_seconds, end - time.monotonic())))
        statuses = record_ends(runs, watch.look())
    return statuses
