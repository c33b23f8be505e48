"""Supervises the ranks of an attempt from start to end: watches them, reports failures, leaves no process behind."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.launch.elastic import Elastic
from saman.configs.schemas.launch.restart import Restart
from saman.launcher.elastic.losses import Losses
from saman.launcher.elastic.ranks import ElasticRanks, Surroundings
from saman.launcher.plan.placement import Placement
from saman.launcher.plan.roles import ServingProcesses
from saman.launcher.starters.start import Start
from saman.launcher.supervision.background_view import BackgroundView, in_background
from saman.launcher.supervision.outcome import WHO, Outcome, conclude, read_records
from saman.launcher.supervision.progress import AttemptWatch, TrainingProgress
from saman.launcher.supervision.rank_output import RankOutput
from saman.launcher.supervision.signals import RecordedSignals
from saman.launcher.supervision.stalls import Stall, find_stall
from saman.launcher.supervision.start_processes import StartProcesses
from saman.launcher.supervision.verdict import AttemptEnd
from saman.launcher.supervision.views import SilentView, View
from saman.runs.events import Event, EventKind, State
from saman.runs.files.whole import parse_json
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.folder import Attempt, RunFolder
from saman.runs.gathering.leftovers import gather_leftovers
from saman.runs.growing_files import Follower
from saman.runs.ranks.board import Announcement, BoardWriter
from saman.runs.ranks.heartbeats import BeatObserver
from saman.runs.ranks.rank_events import RankExited, SlowRank
from saman.runs.ranks.records import RankRecord
from saman.runs.ranks.training_events import Notice
from saman.runs.telemetry.slow_ranks import SlowRanks

_log = logging.getLogger(__name__)

TICK_SECONDS = 0.1
REOPEN_SECONDS = 2.0  # between two looks for events by name: NFS shows changes at once only to those who open a file
LOOK_SECONDS = 1.0  # between two readings of the heartbeats
MOST_SHARE = 5.0  # this many times what a reading took: it must not keep a core busy
MISSING_LOOKS = 3  # in a row for the run folder, before it counts as gone
LINGER_SECONDS = 1.5  # after the first failure, for peers to report theirs; a little longer than they stay


@dataclass(frozen=True)
class SupervisionOptions:
    """The options of supervision: time limits of phases, whether a stall ends the attempt, the output to show."""

    stall_seconds: Mapping[str, float] = field(default_factory=dict)
    abort_on_stall: bool = False
    all_ranks: bool = False
    is_script: bool = False
    restart: Restart | None = None  # whether the run starts again by itself after a failure
    elastic: Elastic | None = None  # whether lost ranks are replaced while the others go on
    surroundings: Surroundings | None = None  # of an elastic run on several nodes
    exclude_stragglers: bool = False  # whether a slow rank leaves an elastic run
    serving: ServingProcesses | None = None  # parameter servers and their workers


def supervise(
    run: RunFolder,
    attempt: Attempt,
    start: Start,
    placement: Placement,
    environ: Mapping[str, str],
    signals: RecordedSignals,
    watching: SupervisionOptions | None = None,
    view: View | None = None,
) -> Outcome:
    """Start the ranks, watch them until the last rank has exited, and record the outcome.

    SIGINT, SIGTERM and SIGHUP stop all ranks (``cancelled``, 130); SIGUSR1 asks for a checkpoint and a clean end.

    Args:
        run: the run folder; the caller holds the run's lock.
        attempt: the files of this attempt.
        start: the commands to start.
        placement: the process, node and cores of each rank.
        environ: the inherited variables; ``start`` adds its own.
        signals: the signals that reach this process; the caller has started the record.
        watching: what to watch for.
        view: where to show progress and messages.

    Raises:
        EnvironmentLack: if the run folder can no longer be written; all ranks are stopped first.
    """
    with explain_write_errors(run.path, "the run folder"), in_background(view or SilentView()) as shown:
        supervisor = _Supervisor(
            run=run,
            attempt=attempt,
            start=start,
            placement=placement,
            environ=dict(environ),
            signals=signals.numbers,
            watching=watching or SupervisionOptions(),
            view=shown,
        )
        try:
            return supervisor.supervise()
        except OSError as error:
            _record_unwritable(run, attempt, error)
            raise


def _record_unwritable(run: RunFolder, attempt: Attempt, error: OSError) -> None:
    """Record that the attempt failed because the run folder could not be written: it must not stay ``running``."""
    with contextlib.suppress(OSError):
        if run.state is State.RUNNING:
            reason = f"the run folder could not be written: {error.strerror or error}"
            run.append(State.FAILED.value, WHO, attempt.number, message=reason)


class _Supervisor:
    """Supervises one attempt: its processes, their output, heartbeats and events."""

    def __init__(
        self,
        run: RunFolder,
        attempt: Attempt,
        start: Start,
        placement: Placement,
        environ: dict[str, str],
        signals: list[int],
        watching: SupervisionOptions,
        view: BackgroundView,
    ) -> None:
        self.run, self.attempt, self.start, self.placement = run, attempt, start, placement
        self.signals, self.watching, self.view = signals, watching, view
        self.watch = AttemptWatch(attempt, placement)
        self.observer = BeatObserver()
        self.board = BoardWriter(attempt.board)
        self.slow_ranks = SlowRanks()
        self._look_seconds = LOOK_SECONDS
        self.processes = StartProcesses(run, attempt, start, environ)
        self.failed_at: float | None = None
        self.stall: Stall | None = None
        self.began = time.monotonic()
        self._folder_missing = 0  # looks in a row
        self._events = Follower(run.events_file, newest_bytes=0, reopen_seconds=REOPEN_SECONDS)
        self.output = RankOutput(attempt, placement, watching.all_ranks, view)
        self.elastic = self._elastic_ranks(watching) if watching.elastic is not None else None
        serving = watching.serving
        self.losses = Losses(serving, placement, self._append, view.say) if serving is not None else None

    def _elastic_ranks(self, watching: SupervisionOptions) -> ElasticRanks:
        assert watching.elastic is not None
        return ElasticRanks(
            self.attempt,
            self.placement,
            self.processes,
            watching.elastic,
            self._append,
            self.view.say,
            watching.surroundings,
        )

    def supervise(self) -> Outcome:
        """Start, watch, stop what is left, record the outcome."""
        earlier = self.run.attempts()[:-1][-1:]
        for before in earlier:  # a supervisor that was killed gathered nothing
            if (placement := Placement.read(before.placement)) is not None:
                self._gather_leftovers(before, placement)
        try:
            elastic = self.watching.elastic
            ranks = self.placement.size if elastic is None else elastic.max
            self._append("attempt_started", method=self.start.starter, ranks=ranks, pid=os.getpid(),
                         host=socket.gethostname(), nodes=list(self.placement.nodes))  # fmt: skip
            self.processes.launch()
            self._watch_ranks()
        finally:
            self.processes.stop(at_once=lambda: len(self.signals) > 1)
            if self.elastic is not None:
                self.elastic.close()
            self._events.close()
            self.output.close()
            self.watch.close()
            self.board.close()
            self._gather_leftovers(self.attempt, self.placement)
        self.output.close()  # so that the last look opens the logs
        self.output.show(flush=True)
        self.output.close()
        return self._conclude()

    def _gather_leftovers(self, attempt: Attempt, placement: Placement) -> None:
        nodes = {name: index for index, name in enumerate(placement.nodes)}
        gather_leftovers(self.run, attempt.number, nodes)

    def _watch_ranks(self) -> None:
        looked = time.monotonic()
        while self.processes.running:
            time.sleep(TICK_SECONDS)
            now = time.monotonic()
            self._take_events()
            if self.elastic is not None:
                self.elastic.look()
            if self._must_stop(now):  # failures and signals first, output last
                return
            if now - looked >= self._look_seconds:
                looked = now
                self._check_folder()
                self._read_heartbeats()
                self._announce()
                self._look_seconds = max(LOOK_SECONDS, MOST_SHARE * (time.monotonic() - now))
            self.output.show()
        self._events.close()  # so that the last look opens the file
        self._take_events()

    def _check_folder(self) -> None:
        """Raise if the run folder is gone: all that the ranks still do would be lost."""
        try:
            self.run.path.stat()
            self._folder_missing = 0
        except FileNotFoundError:
            self._folder_missing += 1
        except OSError:  # a file server that does not answer may answer later
            return
        if self._folder_missing >= MISSING_LOOKS:
            remedy = "it was moved or removed while the run was going on; its ranks are stopped"
            raise EnvironmentLack("the run folder has vanished", where=str(self.run.path), remedy=remedy)

    def _must_stop(self, now: float) -> bool:
        self.processes.note_losses()
        if signal.SIGUSR1 in self.signals:
            self.signals[:] = [number for number in self.signals if number != signal.SIGUSR1]
            self.run.request_stop("SIGUSR1", WHO)
        if self.signals:
            self.view.say(f"{signal.Signals(self.signals[0]).name}: stopping all ranks")
            _log.info("%s: stopped by signal %d", self.run.id, self.signals[0])
            return True
        if self.elastic is not None and (self.elastic.is_over or self.elastic.problem is not None):
            return True
        at_the_end = self.elastic is not None and bool(self.elastic.authority.finished)
        spared = self.losses.spared if self.losses is not None else ()
        failed = self.processes.failed_besides(spared) if self.elastic is None else self.processes.companion_ended
        if failed and self.failed_at is None and not at_the_end:
            _log.info("%s: a start command failed", self.run.id)
            self.failed_at = now
        if self.failed_at is not None and now - self.failed_at > LINGER_SECONDS:
            return True
        if self.stall is None or not self.watching.abort_on_stall:
            return False
        if self.elastic is None:
            return True
        self.elastic.exclude(self.stall.ranks)
        self._end_stall()
        return False

    def _announce(self) -> None:
        """Tell the nodes what no node can see alone."""
        records = self.watch.records
        ended = sum(record.has_ended for record in records.values()) == len(self.placement.processes)
        self.board.show(Announcement(stop=self.run.stop_request.exists(), all_ended=ended))

    # ---- what the ranks report ---------------------------------------------------------------------------

    def _take_events(self) -> None:
        for line in self._events.lines():
            with contextlib.suppress(ValueError, AttributeError):
                event = Event.from_json(parse_json(line))
                if event is not None and event.attempt == self.attempt.number:
                    self._take(event)

    def _take(self, event: Event) -> None:
        self.watch.note(event)
        notice = Notice.from_event(event)
        if notice is not None and event.who != WHO:
            self.view.say(notice.text)
        if self._is_failure(event) and self.failed_at is None:
            self.failed_at = time.monotonic()

    def _is_failure(self, event: Event) -> bool:
        if self.elastic is not None:
            return self.elastic.is_failure(event)
        if self.losses is not None and self.losses.take(event):
            return False
        exited = RankExited.from_event(event)
        return event.kind == EventKind.RANK_FAILED or (exited is not None and exited.failed and not exited.stopped)

    def _read_heartbeats(self) -> None:
        now = time.monotonic()
        absent = self.elastic.absent if self.elastic is not None else frozenset()
        self.observer.forget(self.elastic.take_ended() if self.elastic is not None else ())
        absent |= self.losses.silent_ranks if self.losses is not None else frozenset()
        present = {rank: beat for rank, beat in self.watch.beats().items() if rank not in absent}
        beats = self.observer.observe(present, now)
        if not self.watching.is_script:
            progress = self.watch.progress(beats)
            self._note_slow_ranks(progress, now)
            self.view.progress(progress)
        if not self.watching.stall_seconds or self.failed_at is not None:
            return
        stall = find_stall(beats, self.watching.stall_seconds, now)
        if stall is not None and (self.stall is None or stall.ranks != self.stall.ranks):
            self._append("stalled", rank=stall.ranks[0], ranks=list(stall.ranks), phase=stall.phase, step=stall.step,
                         seconds=round(stall.seconds, 1), reason=stall.reason)  # fmt: skip
            self.view.say(f"stall: {stall.sentence()}")
        if stall is None and self.stall is not None:
            self._end_stall()
        self.stall = stall

    def _end_stall(self) -> None:
        self.stall = None
        self._append(EventKind.STALL_OVER)
        self.view.say("the stall is over")

    def _note_slow_ranks(self, progress: TrainingProgress, now: float) -> None:
        """Record the ranks that begin or cease to hold up the others."""
        for change in self.slow_ranks.look(progress.stragglers, now):
            slow = change.straggler
            event = SlowRank(slow.rank, slow.node, slow.slower, progress.step, change.ended)
            self._append(EventKind.STRAGGLER, **event.facts())
            self.view.say(event.words)
        if self.elastic is None or self.watching.elastic is None or not self.watching.exclude_stragglers:
            return
        worst = self.slow_ranks.to_exclude(self.elastic.size, self.watching.elastic.min, now)
        if worst is not None:
            self.slow_ranks.forget(worst.rank)
            text = f"{worst.words}: it leaves the run, and its place is avoided (launch.on_straggler)"
            self._append(EventKind.NOTICE, text=text, rank=worst.rank, node=worst.node)
            self.view.say(text)
            self.elastic.exclude_slow(worst.rank)

    # ---- the end -----------------------------------------------------------------------------------------

    def _conclude(self) -> Outcome:
        records = read_records(self.attempt, self.placement)
        self._record_lost_processes(records)
        ended = AttemptEnd(
            placement=self.placement,
            starter=self.start.starter,
            records=records,
            codes=self.processes.exit_statuses,
            signals=self.signals,
            aborted=self.stall if self.watching.abort_on_stall else None,
            is_script=self.watching.is_script,
            early=self.processes.early or (self.elastic.problem if self.elastic is not None else None),
            members=self._members(),
            lost=self.losses.lost_ranks if self.losses is not None else frozenset(),
        )
        seconds = time.monotonic() - self.began
        output = tuple(self.processes.output)
        return conclude(self.run, self.attempt, ended, seconds, output, self.watching.restart)

    def _members(self) -> frozenset[int] | None:
        """The processes whose end counts; ``None`` for all."""
        if self.elastic is not None:
            return self.elastic.authority.finished
        return self.losses.members if self.losses is not None else None

    def _record_lost_processes(self, records: Mapping[int, RankRecord]) -> None:
        """Record the end of processes that left no record, because the wrapper was killed or the node is gone."""
        for process in self.placement.processes:
            record, number = records.get(process.first_rank), self._wrapper_signal(process.index)
            if (record is None and number is None) or (record is not None and record.has_ended):
                continue
            stopped = number is None and bool(self.signals or self.failed_at)
            exited = RankExited(process.first_rank, process.node, signal=number, stopped=stopped)
            self._append("rank_exited", **exited.facts())

    def _wrapper_signal(self, index: int) -> int | None:
        """The signal that ended the wrapper of a process before the supervisor stopped it, if it was started here."""
        return self.processes.lost.get(index) if self.start.starter == "processes" else None

    def _append(self, kind: str, **facts: Any) -> None:
        self.run.append(kind, WHO, self.attempt.number, **facts)
