"""The life of a study: samples trials, starts their runs, prunes, starts again, tells; goes on where it stopped.

Every step can be repeated: a run is found by its key, an epoch is reported once, an ended trial stays as it ended.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.schemas.tuning import TuningObjective
from saman.jobs.cancel import cancel_runs
from saman.runs.events import USER, EventKind, State
from saman.runs.folder import RunFolder
from saman.runs.records.run_events import StopCause, newest_event
from saman.tuning.budget import Standing, free_places
from saman.tuning.ends import EndKind, TrialEnd, judge, node_seconds
from saman.tuning.ledger import Ledger
from saman.tuning.measures import epoch_values, final_values
from saman.tuning.places.known_runs import KnownRuns
from saman.tuning.places.place import Seen
from saman.tuning.plan import RunSpec, TuningPlan
from saman.tuning.trials import Trial, TrialOutcome, counted

FIRST_SECONDS, LONGEST_SECONDS = 0.5, 5.0  # between two looks: soon after a change, later if nothing changes

FAILURES_IN_A_ROW = 10
PATIENCE_SECONDS = 600.0  # with a place that does not answer, such as a Slurm controller that starts again
_FAILURES = (TrialOutcome.FAILED, TrialOutcome.KILLED)


@dataclass
class Pace:
    """The wait between two looks, which grows while nothing changes."""

    seconds: float = FIRST_SECONDS

    def wait(self, changed: bool) -> None:
        """Sleep until the next look."""
        self.seconds = FIRST_SECONDS if changed else min(LONGEST_SECONDS, 1.5 * self.seconds)
        time.sleep(self.seconds)


class Search:
    """The search of a study, up to its last trial.

    Args:
        plan: The study.
        ledger: Its trials.
        runs: Its runs.
        say: Receives a sentence at the end of each trial.
    """

    def __init__(
        self, plan: TuningPlan, ledger: Ledger, runs: KnownRuns, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self._plan, self._study, self._ledger, self._runs, self._say = plan, plan.study, ledger, runs, say
        self._changed = False

    def run(self) -> None:
        """Search until no trial is under way and none may start."""
        pace, answered = Pace(), time.monotonic()
        going = True
        while going:
            try:
                going = self.look()
                answered = time.monotonic()
            except EnvironmentLack as lack:
                if time.monotonic() - answered > PATIENCE_SECONDS:
                    raise
                self._say(f"trying again: {lack}")
            if going:
                pace.wait(self._changed)

    def look(self) -> bool:
        """Look at every trial under way once, and start new ones; returns whether any is under way."""
        self._changed = False
        pending = [trial for trial in self._ledger.trials() if trial.outcome is TrialOutcome.RUNNING]
        begun = [(trial, run) for trial in pending if (run := self.run_of(trial)) is not None]
        for (trial, run), seen in zip(begun, self._runs.look([run for _, run in begun]), strict=True):
            self._follow(trial, run, seen)
        self._start_more()
        return any(trial.outcome is TrialOutcome.RUNNING for trial in self._ledger.trials())

    def run_of(self, trial: Trial) -> RunFolder | None:
        """The run of a trial: that of the pruned trial which it continues."""
        by_number = {each.number: each for each in self._ledger.trials()}
        while trial.continues is not None and trial.continues < trial.number and trial.continues in by_number:
            trial = by_number[trial.continues]
        return self._runs.find(str(trial.number))

    # ---- a trial under way -------------------------------------------------------------------------------

    def _follow(self, trial: Trial, run: RunFolder, seen: Seen) -> None:
        if seen.problem is not None:
            self._end(trial, run, TrialOutcome.FAILED, detail=seen.problem)
        elif seen.idle:
            self._runs.restart(run)
        elif trial.continues is not None and not trial.resumed:
            self._ledger.note(trial.number, resumed=True)
            self._runs.restart(run)
        else:
            summary = run.summary() if seen.status.over else None
            failure = summary.failure if summary else None
            ended = TrialEnd(EndKind.OPEN) if seen.busy else judge(seen.status, run.events(), failure)
            self._decide(trial, run, ended)

    def _decide(self, trial: Trial, run: RunFolder, ended: TrialEnd) -> None:
        against = self._report(trial, run, whole=ended.kind is EndKind.COMPLETE)
        if ended.kind is EndKind.COMPLETE:
            self._complete(trial, run)
        elif ended.kind is EndKind.OPEN:
            if against is not None:
                self._prune(trial, run, against)
            elif trial.pruned_at is not None:
                self._insist(run)
        elif against is not None or trial.pruned_at is not None:
            self._pruned(trial, run, trial.pruned_at if against is None else against)
        elif ended.kind is EndKind.STOPPED:
            self._restart(trial, run)
        elif ended.kind is EndKind.CANCELLED:
            self._end(trial, run, TrialOutcome.CANCELLED, detail=ended.detail)
        else:
            self._retry(trial, run, ended)

    def _report(self, trial: Trial, run: RunFolder, whole: bool) -> int | None:
        """Report new epochs; returns the epoch at which the pruner decides against the trial.

        A whole run is not pruned, nor is a trial that its user continues.
        """
        if len(self._study.objectives) > 1 or self._objective.is_measure:
            return None
        may_prune = not whole and trial.pruned_at is None and trial.continues is None
        for epoch, value in epoch_values(run.events(), self._objective).items():
            if epoch in trial.epochs or (trial.pruned_at is not None and not whole):
                continue
            self._changed = True
            against = self._ledger.report(trial.number, epoch, value)
            if against and may_prune and epoch != self._plan.epochs:
                return epoch
        return None

    @property
    def _objective(self) -> TuningObjective:
        return self._study.objectives[0]

    def _complete(self, trial: Trial, run: RunFolder) -> None:
        values = final_values(run, self._study.objectives)
        found = [value for value in values if value is not None]
        if len(found) < len(values):
            missing = [each.metric for each, value in zip(self._study.objectives, values, strict=True) if value is None]
            self._end(trial, run, TrialOutcome.FAILED, detail=f"the run did not report {', '.join(missing)}")
        elif not all(math.isfinite(value) for value in found):
            self._end(trial, run, TrialOutcome.DIVERGED, detail="an objective is not finite")
        else:
            self._end(trial, run, TrialOutcome.COMPLETE, found)

    # ---- pruning -----------------------------------------------------------------------------------------

    def _prune(self, trial: Trial, run: RunFolder, epoch: int) -> None:
        """Ask a trial for a checkpoint and its end. The decision is kept first: it holds if this process is killed."""
        self._ledger.note(trial.number, pruned_at=epoch)
        self._changed = True
        run.request_stop(StopCause.PRUNED.value, USER)

    def _insist(self, run: RunFolder) -> None:
        """Ask again where a new start withdrew the request; cancel a run that does not answer."""
        if not run.stop_request.exists():
            run.request_stop(StopCause.PRUNED.value, USER)
            return
        asked = newest_event(run.events(), EventKind.STOP_REQUESTED)
        if asked is not None and time.time() - asked.time > self._study.stop_seconds:
            for sentence in cancel_runs([run]):
                self._say(sentence)

    def _pruned(self, trial: Trial, run: RunFolder, epoch: int | None) -> None:
        if run.state is State.PREEMPTED:  # it is not to continue by itself
            run.append(EventKind.CANCELLED, USER, reason=f"pruned at epoch {epoch}, with a checkpoint")
        value = epoch_values(run.events(), self._objective).get(epoch or 0, 0.0)
        outcome = TrialOutcome.PRUNED if math.isfinite(value) else TrialOutcome.DIVERGED
        self._end(trial, run, outcome, pruned_at=epoch)

    # ---- starting again ----------------------------------------------------------------------------------

    def _retry(self, trial: Trial, run: RunFolder, ended: TrialEnd) -> None:
        limits, killed = self._study.retries, ended.kind is EndKind.KILLED
        if trial.retries >= (limits.killed if killed else limits.failed):
            self._end(trial, run, TrialOutcome.KILLED if killed else TrialOutcome.FAILED, detail=ended.detail)
            return
        self._say(f"trial {trial.number} starts again ({ended.kind.value}: {ended.detail})")
        if self._restart(trial, run):
            self._ledger.note(trial.number, retries=trial.retries + 1)

    def _restart(self, trial: Trial, run: RunFolder) -> bool:
        """Start a run again; a trial whose run the place refuses has failed."""
        self._changed = True
        try:
            self._runs.restart(run)
        except EnvironmentLack:
            raise
        except UserError as error:
            self._end(trial, run, TrialOutcome.FAILED, detail=str(error))
            return False
        return True

    def _end(
        self,
        trial: Trial,
        run: RunFolder | None,
        outcome: TrialOutcome,
        values: Sequence[float] | None = None,
        **facts: object,
    ) -> None:
        self._changed = True
        known = {} if run is None else {"run": run.id, "node_hours": node_hours(run)}
        self._ledger.tell(trial.number, outcome, values, **known, **facts)
        named = zip(self._study.objectives, values, strict=True) if values is not None else ()
        shown = ", ".join(f"{objective.metric} {value:.4g}" for objective, value in named)
        at = f" at epoch {facts['pruned_at']}" if facts.get("pruned_at") else ""
        why = f": {facts['detail']}" if facts.get("detail") else ""
        self._say(f"trial {trial.number} {outcome}{at}{': ' if shown else ''}{shown}{why}")

    # ---- new trials --------------------------------------------------------------------------------------

    def _start_more(self) -> None:
        if room := self._room():
            self._stop_if_all_fail()
        for _ in range(room):
            self._ledger.ask()
        waiting = [
            trial
            for trial in self._ledger.trials()
            if trial.outcome is TrialOutcome.RUNNING and self.run_of(trial) is None
        ]
        specs = [spec for trial in waiting if (spec := self._spec(trial)) is not None]
        if not specs:
            return
        self._changed = True
        refused = self._runs.start_each(specs)
        for trial in waiting:
            if (error := refused.get(str(trial.number))) is not None:
                self._end(trial, None, TrialOutcome.FAILED, detail=str(error))
            elif (run := self.run_of(trial)) is not None:
                self._ledger.note(trial.number, run=run.id)

    def _stop_if_all_fail(self) -> None:
        """Raise ``UserError`` where trial after trial fails: more of them would only cost."""
        ended = [trial for trial in self._ledger.trials() if trial.outcome is not TrialOutcome.RUNNING]
        last = ended[-max(FAILURES_IN_A_ROW, 2 * self._study.concurrency) :]
        if len(last) >= FAILURES_IN_A_ROW and all(trial.outcome in _FAILURES for trial in last):
            problem = f"the last {len(last)} trials failed: {last[-1].detail}"
            raise UserError(problem, where=f"study {self._study.name}", remedy="mend the cause")

    def _spec(self, trial: Trial) -> RunSpec | None:
        try:
            return self._plan.trial(trial.number, trial.settings)
        except UserError as error:
            self._end(trial, None, TrialOutcome.FAILED, detail=str(error))
            return None

    def _room(self) -> int:
        trials = self._ledger.trials()
        under_way = [trial for trial in trials if trial.outcome is TrialOutcome.RUNNING]
        finished = [trial.node_hours for trial in trials if trial.outcome is not TrialOutcome.RUNNING]
        if self._study.node_hours is None:
            standing = Standing(len(counted(trials)), len(under_way), 0.0, 0.0)
        else:
            used = sum(node_hours(run) for run in self._runs.all())
            longest = max(finished, default=0.0) or self._bound(trials)
            # the hours of trials under way are in `used` already: a little more is kept back than needed
            standing = Standing(len(counted(trials)), len(under_way), used, longest)
        return free_places(standing, self._study.most_trials, self._study.concurrency, self._study.node_hours)

    def _bound(self, trials: Sequence[Trial]) -> float:
        """The most that a trial may cost, by the time limit; of the base experiment before the first trial."""
        if self._plan.study.program is not None or self._plan.base is None:
            settings = trials[0].settings if trials else {}
            return self._plan.trial(0, settings).node_hours_bound
        base = self._plan.base
        return RunSpec("0", base.experiment, base.code_path).node_hours_bound


def node_hours(run: RunFolder) -> float:
    """Node-hours of all starts of a run."""
    events = run.events()
    over = run.state.ended or run.state is State.PREEMPTED
    return node_seconds(events, run.spec().resources.nodes, time.time(), over) / 3600
