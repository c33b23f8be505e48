"""The end of an attempt in a Slurm job: completed, cancelled, out of time, or to be continued by another start."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from saman.configs.errors import EnvironmentLack, ExitCode
from saman.configs.schemas.experiment import Experiment
from saman.configs.terminal_text import clean_text
from saman.launcher.supervision.outcome import Outcome
from saman.runs import variables
from saman.runs.commands import run_command
from saman.runs.events import TRANSITIONS, EventKind, State
from saman.runs.folder import RunFolder
from saman.runs.growing_files import last_text
from saman.runs.records.run_events import Creation, StopRequest
from saman.slurm.job import decisions
from saman.slurm.job.allocation import Allocation
from saman.slurm.job.decisions import Begin, Cause
from saman.slurm.job.node_failures import WHO, record_dead, record_gone
from saman.slurm.site import client

JOB_LOG_BYTES = 65536  # of the job's log that are searched for Slurm's reason
PUBLISHER = "saman.jobs.publishing"  # a module of a room above: started, not imported
CAUSE_SECONDS = 4.0  # accounting needs a second or two to say why a job is ended


@dataclass(frozen=True)
class Ending:
    """Decides how a job ends once its ranks have ended. ``asked`` are the signals that reached the job."""

    run: RunFolder
    here: Allocation
    attempts_allowed: int
    asked: Sequence[int]
    say: Callable[[str], None]

    def code(self, outcome: Outcome) -> int:
        """Decide the exit status of the job: ask Slurm whether it was cancelled or lost a node, and record the end."""
        self.say(outcome.message)
        if outcome.state is State.FAILED and not outcome.failure:
            print(clean_text("\n".join(outcome.starter_lines)), flush=True)
        if outcome.state is State.COMPLETED:
            return self._publish()
        if self._cancelled_by_user():
            return self._cancel(outcome)
        if signal.SIGTERM in self.asked:
            return self._taken_away(outcome)
        if outcome.state is State.FAILED:
            gone = record_dead(self.run, outcome)
            if gone or (outcome.restart is not None and outcome.restart.restarts):
                return self._again(outcome, f"lost {', '.join(gone)}" if gone else "no nodes are left for a restart")
            return outcome.exit_code
        return self._again(outcome, self._reason()) if outcome.state is State.PREEMPTED else outcome.exit_code

    def _taken_away(self, outcome: Outcome) -> int:
        why = self._cause()
        self.say(f"Slurm takes the nodes away: {why.value}")
        if why is Cause.CANCELLED:
            return self._cancel(outcome)
        if why is Cause.TIME_LIMIT and outcome.state is not State.PREEMPTED:
            return self._out_of_time()
        gone = record_gone(self.run, self.run.attempt(outcome.attempt))
        return self._again(outcome, f"lost {', '.join(gone)}" if gone else why.value)

    def _reason(self) -> str:
        return signal.Signals(self.asked[0]).name if self.asked else "requested by control/stop"

    def _publish(self) -> int:
        """Publish and show the run where its experiment asks, in a process: this room does not know how.

        Returns 1 if publishing failed. A version that ``publish.if`` or a gate decides against is no failure.
        """
        spec = self.run.spec()
        if not isinstance(spec, Experiment) or (spec.publish is None and spec.tracking is None):
            return ExitCode.DONE
        events = self.run.events()
        models = Creation.find(events).models_dir or self.run.runs_dir.parent / "models"
        command = [sys.executable, "-m", PUBLISHER, str(self.run.path), str(models)]
        code = run_command(command, captured=False).returncode
        if code == 0:
            return ExitCode.DONE
        if not any(event.kind == EventKind.PUBLISH_FAILED for event in self.run.events()[len(events) :]):
            reason = f"the publishing process ended with exit status {code}"
            self.run.append(EventKind.PUBLISH_FAILED, WHO, reason=reason, exit_code=code)
        self.say("publishing failed; the model is in the run folder, saman models publish tries again")
        return ExitCode.RUN_FAILED

    def _cancelled_by_user(self) -> bool:
        """Whether the user cancelled the run since it last waited to start."""
        events = self.run.events()
        started = max(
            (index for index, event in enumerate(events) if event.kind == EventKind.ATTEMPT_STARTED), default=0
        )
        waited = max((index for index, event in enumerate(events[:started]) if event.kind in TRANSITIONS), default=0)
        asked = (StopRequest.from_event(event) for event in events[waited:])
        return any(request is not None and request.cancels for request in asked)

    def _cancel(self, outcome: Outcome) -> int:
        if outcome.state is not State.CANCELLED:
            done = "with a checkpoint" if outcome.state is State.PREEMPTED else "before a checkpoint was done"
            self.run.append(
                EventKind.CANCELLED, WHO, outcome.attempt, reason=f"job {self.here.job} was cancelled, {done}"
            )
        return ExitCode.INTERRUPTED

    def _out_of_time(self) -> int:
        """Fail: another start would reach the same limit from the same checkpoint."""
        reached = f"job {self.here.job} reached its time limit before a checkpoint was done"
        return self._fail(f"{reached}; saman resume {self.run.id}")

    def _again(self, outcome: Outcome, reason: str) -> int:
        """Continue in another start, if any is left."""
        attempts = len(self.run.attempts())
        decision = decisions.decide_start(self.run.events(), attempts, self.attempts_allowed, ())
        if outcome.state is not State.PREEMPTED or decision.begin is Begin.NOT_NEEDED:
            self.run.append(EventKind.PREEMPTED, WHO, outcome.attempt, reason=reason)
            decision = decisions.decide_start(self.run.events(), attempts, self.attempts_allowed, ())
        if decision.begin is Begin.USED_UP:
            return self._fail(f"{decision.reason}; saman resume {self.run.id} continues from the newest checkpoint")
        return ExitCode.REQUEUE

    def _fail(self, message: str) -> int:
        self.run.append(EventKind.FAILED, WHO, message=message, exit_code=int(ExitCode.RUN_FAILED))
        self.say(message)
        return ExitCode.RUN_FAILED

    def _cause(self) -> Cause:
        deadline = time.monotonic() + CAUSE_SECONDS
        found = Cause.UNKNOWN
        while found is Cause.UNKNOWN and time.monotonic() < deadline:
            recorded = _recorded_state(self.here.job)
            log = Path(os.environ.get(variables.SLURM_LOG) or self.run.slurm.log)
            tail = last_text(log, JOB_LOG_BYTES)
            found = decisions.find_cause(
                client.show_job(self.here.job), self.here.restarts, recorded, tail, self.here.raw_job
            )
            if found is Cause.UNKNOWN:
                time.sleep(0.5)
        return found


def _recorded_state(job: str) -> str | None:
    try:
        answer = client.ask(["sacct", "-n", "-P", "-X", "-j", job, "-o", "State"], timeout_seconds=10)
    except EnvironmentLack:
        return None
    return answer.lines[-1] if answer.code == 0 and answer.lines else None
