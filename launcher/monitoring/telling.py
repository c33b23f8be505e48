"""When others are told of a run: at a restart, and once it is settled how the run ends here, or goes on elsewhere."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from saman.configs.errors import UserError
from saman.launcher.monitoring.notification import notification_of, tell
from saman.launcher.supervision.views import SilentView, View
from saman.runs.events import SUPERVISOR, TRANSITIONS, Event, EventKind, State
from saman.runs.folder import RunFolder

if TYPE_CHECKING:
    from saman.configs.schemas.monitoring import Notify

_log = logging.getLogger(__name__)

HURRY_SECONDS = 3.0  # for each that is told while Slurm takes the nodes away
_ENDS = {EventKind.RESTARTING, EventKind.PREEMPTED, *(EventKind(state.value) for state in State if state.ended)}


@contextlib.contextmanager
def told_of_end(
    run: RunFolder, view: View | None = None, in_a_hurry: Callable[[], bool] = lambda: False
) -> Iterator[None]:
    """Tell others, when the block ends, of the last change of state within it: earlier ones were not the last word.

    A failed attempt may be followed by a requeue, a checkpoint by a cancellation. Restarts are told by
    ``told_of_restart``.

    Args:
        run: The run folder.
        view: Where problems are shown.
        in_a_hurry: Whether little time is left at the end of the block.
    """
    before = len(run.events())
    try:
        yield
    finally:
        with contextlib.suppress(OSError, UserError):  # a folder that is gone, or is no run
            last = _last_change(run.events()[before:])
            notify = run.spec().notify if last is not None and last.kind != EventKind.RESTARTING else None
            if last is not None and notify is not None:
                seconds = min(notify.timeout_seconds, HURRY_SECONDS) if in_a_hurry() else notify.timeout_seconds
                limited = notify.model_copy(update={"timeout_seconds": seconds})
                _tell(run, limited, last, view or SilentView())


@contextlib.contextmanager
def told_of_restart(run: RunFolder, notify: Notify | None, attempt: int, view: View | None = None) -> Iterator[None]:
    """Tell others of a restart after the attempt of the block, and before it of a loss that left no record.

    Args:
        run: The run folder.
        notify: Who is told; ``None`` for nobody.
        attempt: The number of the attempt.
        view: Where problems are shown.
    """
    if notify is None:
        yield
        return
    _tell_of_lost(run, notify, attempt, view or SilentView())
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            last = _last_change([event for event in run.events() if event.attempt == attempt])
            if last is not None and last.kind == EventKind.RESTARTING:
                _tell(run, notify, last, view or SilentView())


def _last_change(events: Sequence[Event]) -> Event | None:
    return next((event for event in reversed(events) if event.kind in TRANSITIONS), None)


def _tell_of_lost(run: RunFolder, notify: Notify, attempt: int, view: View) -> None:
    """Tell others that the attempt follows another that left no record of its end: its node or supervisor is lost."""
    before = [event for event in run.events() if event.attempt == attempt - 1]
    if attempt == 1 or not before or any(event.kind in _ENDS and event.who == SUPERVISOR for event in before):
        return
    reason = f"attempt {attempt} begins; attempt {attempt - 1} left no record of its end"
    event = Event(EventKind.RESTARTING.value, SUPERVISOR, attempt=attempt, facts={"reason": reason})
    threading.Thread(target=_tell, args=(run, notify, event, view), name="notify", daemon=True).start()


def _tell(run: RunFolder, notify: Notify, event: Event, view: View) -> None:
    """Tell others of an event; what goes wrong is a notice of the run."""
    notification = notification_of(run, event)
    for problem in tell(run, notify, notification) if notification is not None else ():
        _log.info("%s: %s", run.id, problem)
        view.say(f"nobody was told: {problem}")
        with contextlib.suppress(OSError):
            run.append(EventKind.NOTICE, SUPERVISOR, event.attempt, text=f"nobody was told: {problem}")
