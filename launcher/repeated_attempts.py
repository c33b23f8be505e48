"""Makes the attempts of a run until an attempt ends that is not followed by another by itself (``launch.restart``)."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from saman.configs.errors import ExitCode, UserError
from saman.launcher.restarts.decision import waits_to_restart
from saman.launcher.supervision.outcome import WHO, Outcome
from saman.launcher.supervision.run_lock import hold_run
from saman.launcher.supervision.signals import RecordedSignals
from saman.launcher.supervision.views import View
from saman.runs.events import EventKind, State
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.folder import RunFolder

LOOK_SECONDS = 0.1  # between looks for signals and stop requests during a pause

Begin = Callable[["Outcome | None", RecordedSignals], "Outcome | None"]


def repeat_attempts(run: RunFolder, begin: Begin, view: View | None = None, lock_seconds: float = 0.0) -> Outcome:
    """Make attempts of a run, which no other supervisor can take in between.

    Args:
        run: The run folder.
        begin: Makes an attempt, given the outcome of the failed attempt before (``None`` for the first) and the
            record of signals; returns ``None`` if no attempt can begin here.
        view: Shows the decisions.
        lock_seconds: How long to wait for another supervisor to give the run up.

    Returns:
        The outcome of the last attempt.

    Raises:
        UserError: Another supervisor is at work on the run, or the ranks do not fit.
        EnvironmentLack: The run folder cannot be written, or the machine lacks what the start needs.
    """
    with hold_run(run, wait_seconds=lock_seconds), contextlib.closing(RecordedSignals()) as signals:
        outcome = begin(None, signals)
        assert outcome is not None
        while outcome.restart is not None:
            if view is not None and outcome.restart.restarts:
                view.say(f"attempt {outcome.attempt}: {outcome.message}")
            if view is not None:
                view.say(outcome.restart.reason)
            if not outcome.restart.restarts:
                return outcome
            following = _next(run, begin, outcome, signals)
            if following is None:
                return outcome
            outcome = following
        return outcome


def _next(run: RunFolder, begin: Begin, failed: Outcome, signals: RecordedSignals) -> Outcome | None:
    try:
        with explain_write_errors(run.path, "the run folder"):
            return _pause(run, failed, signals.numbers) or begin(failed, signals)
    except BaseException as error:
        with contextlib.suppress(OSError):  # a run that cannot go on must not stay `running`
            if run.path.is_dir() and waits_to_restart(run.events()):
                code = error.exit_code if isinstance(error, UserError) else ExitCode.RUN_FAILED
                message = f"the next attempt could not begin: {error}"
                run.append(EventKind.FAILED, WHO, failed.attempt, message=message, exit_code=int(code))
        raise


def _pause(run: RunFolder, failed: Outcome, signals: Sequence[int]) -> Outcome | None:
    """Wait before the next attempt; return the outcome if a signal or a request stops the run."""
    assert failed.restart is not None
    end = time.monotonic() + failed.restart.pause_seconds
    while not signals and not run.stop_request.exists():
        if time.monotonic() >= end:
            return None
        time.sleep(LOOK_SECONDS)
    if set(signals) - {signal.SIGUSR1}:
        return _stopped(run, failed, State.CANCELLED, ExitCode.INTERRUPTED, "stopped by a signal before a restart")
    return _stopped(run, failed, State.PREEMPTED, ExitCode.REQUEUE, "stopped on request before a restart")


def _stopped(run: RunFolder, failed: Outcome, state: State, code: ExitCode, message: str) -> Outcome:
    run.append(state.value, WHO, failed.attempt, reason=message)
    summary = run.summary()
    if summary is not None:
        run.write_summary(replace(summary, state=state.value, message=message))
    return replace(failed, state=state, exit_code=int(code), message=message, failure=None, restart=None)
