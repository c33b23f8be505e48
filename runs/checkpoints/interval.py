"""The interval between checkpoints that loses least time: the one owner, for training and forecasts. Pure.

J. W. Young, "A first order approximation to the optimum checkpoint interval", CACM 17 (1974); J. T. Daly, "A higher
order estimate of the optimum checkpoint interval for restart dumps", FGCS 22 (2006), equation 37.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import sqrt

from saman.runs.events import TRANSITIONS, Event, EventKind
from saman.runs.telemetry.wall_time import wall_time

BACKGROUND_SHARE = 0.1  # of a busy core that the writing thread takes from the training (``writer.NICENESS``)
_LEAST_COST = 1e-3  # seconds: below, the clock's resolution


def checkpoint_cost(waited_seconds: float, write_seconds: float) -> float:
    """Seconds of training that a checkpoint costs: waiting for it, and the share that writing it takes.

    >>> round(checkpoint_cost(0.02, 0.8), 3)
    0.1
    """
    return max(_LEAST_COST, waited_seconds + BACKGROUND_SHARE * write_seconds)


def best_interval(cost_seconds: float, mtbf_seconds: float, write_seconds: float = 0.0) -> float:
    """Seconds of training between two checkpoints.

    Args:
        cost_seconds: Of a checkpoint (``checkpoint_cost``).
        mtbf_seconds: The mean time between two failures of the run.
        write_seconds: Until a checkpoint is on disk: the next begins no earlier.

    >>> round(best_interval(5.0, 24 * 3600)), round(best_interval(5.0, 2.0))
    (926, 2)
    """
    ratio = cost_seconds / (2 * mtbf_seconds)
    if ratio >= 1:
        best = mtbf_seconds
    else:
        best = sqrt(2 * cost_seconds * mtbf_seconds) * (1 + sqrt(ratio) / 3 + ratio / 9) - cost_seconds
    return max(best, write_seconds)


def estimate_mtbf(events: Iterable[Event], prior_seconds: float, now: float | None = None) -> float:
    """The mean time between failures of a run, in seconds: the expected one, corrected by those that happened.

    The posterior mean of the rate of a Poisson process, for a Gamma prior that counts as one failure in
    ``prior_seconds``: (prior + time) ÷ (1 + failures).

    Args:
        events: The run's events, oldest first.
        prior_seconds: The expected mean time, ``train.checkpoint.mtbf``.
        now: End of the newest attempt while its end is not recorded, in Unix seconds.
    """
    listed = list(events)
    wall = wall_time(listed, now)
    return (prior_seconds + (wall.seconds if wall else 0.0)) / (1 + count_failures(listed))


def count_failures(events: Iterable[Event]) -> int:
    """Attempts that failed, for the checkpoint interval: they begin, and another begins before an end is recorded.

    >>> kinds = ("attempt_started", "restarting", "attempt_started", "attempt_started", "completed")
    >>> count_failures(Event(kind, "supervisor") for kind in kinds)
    2
    """
    failures, running = 0, False
    for event in events:
        if event.kind == EventKind.ATTEMPT_STARTED:
            failures += running
            running = True
        elif event.kind in (EventKind.RESTARTING, EventKind.FAILED):
            failures += running
            running = False
        elif event.kind in TRANSITIONS:
            running = False
    return failures
