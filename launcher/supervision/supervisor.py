"""Supervises the ranks of one attempt from start to end: follows them, names what failed, and leaves nobody behind."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any, Protocol

from saman.configs.errors import UserError
from saman.configs.files import explained
from saman.launcher.plan.placement import Placement
from saman.launcher.starters.start import Command, Start
from saman.launcher.supervision.failures import Failure, find_failure
from saman.launcher.supervision.progress import AttemptWatch, TrainingProgress
from saman.launcher.supervision.stalls import Stall, find_stall
from saman.launcher.supervision.verdict import AttemptEnd, judge
from saman.runs.events import Event, State
from saman.runs.folder import Attempt, RunFolder
from saman.runs.growing_files import Follower
from saman.runs.ranks import processes
from saman.runs.ranks.records import RankRecord
from saman.runs.telemetry.throughput import summary

TICK_SECONDS = 0.1
LOOK_SECONDS = 1.0  # between looks at heartbeats
LINGER_SECONDS = 1.5  # after the first failure, for peers to say how they fared; a little longer than they stay
STOP_SECONDS = 5.0  # between SIGTERM and SIGKILL; the wrappers kill their programs after 4
GONE_SECONDS = 2.0  # to see everybody gone after SIGKILL
STARTER_LINES = 40


class View(Protocol):
    """Where a person watches. Called from the supervising thread; must not block."""

    def progress(self, progress: TrainingProgress) -> None:
        """How far the run is, about once a second."""

    def line(self, rank: int, text: str) -> None:
        """A line that a rank printed."""

    def say(self, text: str) -> None:
        """Something a person should know now."""


class SilentView:
    """A view that shows nothing."""

    def progress(self, progress: TrainingProgress) -> None:
        """Nothing."""

    def line(self, rank: int, text: str) -> None:
        """Nothing."""

    def say(self, text: str) -> None:
        """Nothing."""


@dataclass(frozen=True)
class SupervisionOptions:
    """What to watch for: limits of a stall, what then, whose lines to show."""

    stall_seconds: Mapping[str, float] = field(default_factory=dict)
    abort_on_stall: bool = False
    all_ranks: bool = False
    is_script: bool = False


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended. ``message`` says it to a person; ``starter_lines`` is what the start method printed."""

    run: RunFolder
    attempt: int
    state: State
    exit_code: int
    seconds: float
    message: str
    failure: Failure | None = None
    starter_lines: tuple[str, ...] = ()


@contextlib.contextmanager
def alone(run: RunFolder) -> Iterator[None]:
    """Be the only supervisor of the run; raises ``UserError`` where another one is at work."""
    path = run.path / "control" / "supervisor"
    with explained(run.path, "the run folder"), path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise UserError("this run is running", where=str(run.path), remedy=f"under {file.read().strip()}") from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def supervise(
    run: RunFolder,
    attempt: Attempt,
    start: Start,
    placement: Placement,
    environ: Mapping[str, str],
    watching: SupervisionOptions | None = None,
    view: View | None = None,
) -> Outcome:
    """Start the ranks with ``environ`` and what the start sets, and see them through to the end.

    SIGINT, SIGTERM and SIGHUP stop all ranks (``cancelled``, 130); SIGUSR1 asks for a checkpoint and a clean end.
    Raises ``EnvironmentLack`` where the run folder cannot be written any more, after stopping all ranks.
    """
    one = _Supervisor(
        run, attempt, start, placement, dict(environ), watching or SupervisionOptions(), view or SilentView()
    )
    with explained(run.path, "the run folder"):
        return one.life()


class _Supervisor:
    def __init__(
        self,
        run: RunFolder,
        attempt: Attempt,
        start: Start,
        placement: Placement,
        environ: dict[str, str],
        watching: SupervisionOptions,
        view: View,
    ) -> None:
        self.run, self.attempt, self.start, self.placement = run, attempt, start, placement
        self.environ, self.watching, self.view = environ, watching, view
        self.watch = AttemptWatch(attempt, placement)
        self.ranks: list[subprocess.Popen[bytes]] = []
        self.companions: list[subprocess.Popen[bytes]] = []
        self.said: deque[str] = deque(maxlen=STARTER_LINES)
        self.readers: list[threading.Thread] = []
        self.signals: list[int] = []
        self.lost: dict[int, int] = {}  # start processes that a signal ended before anybody was stopped
        self.failed_at: float | None = None
        self.stall: Stall | None = None
        self.began = time.monotonic()
        self._events = Follower(run.events_file, at_end=True)
        shown = placement.processes if watching.all_ranks else placement.processes[:1]
        self._logs = {one.first_rank: Follower(attempt.log(one.first_rank)) for one in shown}

    # ---- the life of an attempt --------------------------------------------------------------------------

    def life(self) -> Outcome:
        """Start, watch, stop what is left, tell how it ended."""
        with self._signals_noted():
            try:
                self._append("attempt_started", method=self.start.starter, ranks=self.placement.size, pid=os.getpid(),
                             host=socket.gethostname(), nodes=list(self.placement.nodes))  # fmt: skip
                self.companions = [self._launch(command) for command in self.start.companions]
                self.ranks = [self._launch(command) for command in self.start.commands]
                self._watch_ranks()
            finally:
                self._stop_all()
        self._show_lines(flush=True)
        return self._outcome()

    def _launch(self, command: Command) -> subprocess.Popen[bytes]:
        def prepare() -> None:
            processes.die_with_parent(self.start.stop_signal)

        process = subprocess.Popen(
            command.argv,
            env={**self.environ, **command.environment},
            cwd=self.run.path,  # so that "python -m" finds nothing of the user's before the standard library
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C in the terminal reaches saman alone
            preexec_fn=prepare,
        )
        assert process.stdout is not None
        reader = threading.Thread(target=self._read_starter, args=(process.stdout,), daemon=True)
        reader.start()
        self.readers.append(reader)
        return process

    def _read_starter(self, output: IO[bytes]) -> None:
        """Keep what a start method prints, in ``starter.log`` and its end in memory for a full disk."""
        with contextlib.suppress(OSError, ValueError):
            for line in output:
                self.said.append(line.decode(errors="replace").rstrip())
                with contextlib.suppress(OSError), (self.attempt.path / "starter.log").open("ab") as file:
                    file.write(line)

    def _watch_ranks(self) -> None:
        looked = time.monotonic()
        while None in [process.poll() for process in self.ranks]:
            time.sleep(TICK_SECONDS)
            self._take_events()
            self._show_lines()
            now = time.monotonic()
            if now - looked >= LOOK_SECONDS:
                looked = now
                self._look()
            if self._must_stop(now):
                return
        self._take_events()

    def _must_stop(self, now: float) -> bool:
        for index, process in enumerate(self.ranks):
            if process.returncode is not None and process.returncode < 0:
                self.lost.setdefault(index, -process.returncode)
        if signal.SIGUSR1 in self.signals:
            self.signals = [number for number in self.signals if number != signal.SIGUSR1]
            self.run.request_stop("SIGUSR1", "supervisor")
        if self.signals:
            self.view.say(f"{signal.Signals(self.signals[0]).name}: stopping all ranks")
            return True
        if any(process.returncode not in (None, 0, 85) for process in self.ranks) and self.failed_at is None:
            self.failed_at = now
        if any(process.poll() is not None for process in self.companions) and self.failed_at is None:
            self.failed_at = now
        if self.failed_at is not None and now - self.failed_at > LINGER_SECONDS:
            return True
        return self.stall is not None and self.watching.abort_on_stall

    # ---- what the ranks say ------------------------------------------------------------------------------

    def _take_events(self) -> None:
        for line in self._events.lines():
            with contextlib.suppress(ValueError, AttributeError):
                event = Event.from_json(json.loads(line))
                if event is not None and event.attempt == self.attempt.number:
                    self._take(event)

    def _take(self, event: Event) -> None:
        self.watch.note(event)
        if event.kind == "notice" and event.who != "supervisor":
            self.view.say(str(event.facts.get("text", "")))
        failing = event.kind == "rank_failed" or (
            event.kind == "rank_exited" and event.facts.get("code") not in (0, 85) and not event.facts.get("stopped")
        )
        if failing and self.failed_at is None:
            self.failed_at = time.monotonic()

    def _show_lines(self, flush: bool = False) -> None:
        for rank, log in self._logs.items():
            for line in log.lines(flush):
                self.view.line(rank, line)

    def _look(self) -> None:
        beats = self.watch.beats()
        if not self.watching.is_script:
            self.view.progress(self.watch.progress(beats))
        if not self.watching.stall_seconds or self.failed_at is not None:
            return
        stall = find_stall(beats, self.watching.stall_seconds, time.time())
        if stall is not None and (self.stall is None or stall.ranks != self.stall.ranks):
            self._append("stalled", rank=stall.ranks[0], ranks=list(stall.ranks), phase=stall.phase, step=stall.step,
                         seconds=round(stall.seconds, 1), reason=stall.reason)  # fmt: skip
            self.view.say(f"stall: {stall.sentence()}")
        if stall is None and self.stall is not None:
            self.view.say("the stall is over")
        self.stall = stall

    # ---- the end -----------------------------------------------------------------------------------------

    def _stop_all(self) -> None:
        """Nobody is left afterwards: the start's signal to what was started, then SIGKILL to all of the attempt."""
        running = [process for process in self.ranks if process.poll() is None]
        for process in running:
            process.send_signal(self.start.stop_signal)
        deadline = time.monotonic() + STOP_SECONDS
        while any(process.poll() is None for process in running) and time.monotonic() < deadline:
            if len(self.signals) > 1:  # asked again: at once
                break
            time.sleep(0.02)
        processes.kill_until_gone(self._still_here, GONE_SECONDS)
        for process in [*self.ranks, *self.companions]:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=1.0)
        for reader in self.readers:
            reader.join(timeout=0.5)

    def _still_here(self) -> dict[int, processes.ProcessInfo]:
        for process in [*self.ranks, *self.companions]:
            process.poll()  # collects the ended
        return processes.members(self.run.path, self.attempt.number)

    def _outcome(self) -> Outcome:
        records = self._records()
        self._account_for_the_lost(records)
        events = [event for event in self.run.events() if event.attempt == self.attempt.number]
        failure = find_failure(events, records)
        ended = AttemptEnd(
            self.placement,
            self.start.starter,
            records,
            [process.returncode for process in self.ranks],
            self.signals,
            self.stall if self.watching.abort_on_stall else None,
            self.watching.is_script,
        )
        state, code, message = judge(ended, failure)
        seconds = time.monotonic() - self.began
        facts: dict[str, Any] = {"seconds": round(seconds, 3)}
        if state is State.FAILED:
            facts |= {"message": message, "ranks": [one.rank for one in failure.first] if failure else []}
        self.run.write_summary(
            {
                "state": state.value,
                "message": message,
                **facts,
                **summary(self.run, self.attempt, self.run.events()),
                "failure": failure.to_json() if failure and state is State.FAILED else None,
            }
        )
        self._append(state.value, **facts)
        shown = failure if state is State.FAILED else None
        return Outcome(self.run, self.attempt.number, state, code, seconds, message, shown, tuple(self.said))

    def _records(self) -> dict[int, RankRecord]:
        found = {
            process.first_rank: RankRecord.read(self.attempt.rank_record(process.first_rank))
            for process in self.placement.processes
        }
        return {rank: record for rank, record in found.items() if record is not None}

    def _account_for_the_lost(self, records: Mapping[int, RankRecord]) -> None:
        """Record the end of processes whose wrapper could not: it was killed itself, or its node is gone."""
        for process in self.placement.processes:
            record, number = records.get(process.first_rank), self._wrapper_signal(process.index)
            if (record is None and number is None) or (record is not None and record.has_ended):
                continue
            stopped = number is None and bool(self.signals or self.failed_at)
            facts: dict[str, Any] = {"signal": number} if number else {}
            self._append(
                "rank_exited", rank=process.first_rank, node=process.node, stopped=stopped, last_lines=[], **facts
            )

    def _wrapper_signal(self, index: int) -> int | None:
        """The signal that ended the wrapper of a process, where it was started from here and not stopped from here."""
        return self.lost.get(index) if self.start.starter == "processes" else None

    def _append(self, kind: str, **facts: Any) -> None:
        self.run.append(kind, "supervisor", self.attempt.number, **facts)

    @contextlib.contextmanager
    def _signals_noted(self) -> Iterator[None]:
        """Note signals instead of dying of them; outside the main thread they are somebody else's."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, _: FrameType | None) -> None:
            self.signals.append(number)

        watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
        before: dict[int, Callable[..., Any] | int | None] = {number: signal.signal(number, note) for number in watched}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def running(run: RunFolder) -> bool:
    """Whether a supervisor on this machine (or sharing its locks) is at work on the run."""
    path: Path = run.path / "control" / "supervisor"
    try:
        with path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
