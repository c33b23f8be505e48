"""The only way to begin an attempt: plan it, record the plan in the run folder, start the ranks, supervise them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.private_values import private_variables
from saman.launcher.elastic.ranks import Surroundings
from saman.launcher.monitoring.monitor import monitored
from saman.launcher.monitoring.telling import told_of_restart
from saman.launcher.node.provenance import provenance
from saman.launcher.plan.core_claims import CoreClaim, hold_cores
from saman.launcher.plan.roles import serving_processes
from saman.launcher.planning import LaunchPlan, Options, make_plan
from saman.launcher.starters.start import Start
from saman.launcher.supervision import processes
from saman.launcher.supervision.outcome import Outcome
from saman.launcher.supervision.signals import RecordedSignals
from saman.launcher.supervision.supervisor import SupervisionOptions, supervise
from saman.launcher.supervision.views import View
from saman.runs import variables
from saman.runs.events import SUPERVISOR, EventKind
from saman.runs.files.whole import write_whole
from saman.runs.files.write_errors import explain_write_errors
from saman.runs.folder import Attempt, RunFolder
from saman.runs.private_values import reveal_environment
from saman.runs.ranks.identity import own_address

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script


LEFTOVER_SECONDS = 5.0  # for processes of the last attempt to disappear after SIGKILL


def _unchanged(plan: LaunchPlan) -> Start:
    return plan.start


@dataclass(frozen=True)
class AttemptRequest:
    """The request for an attempt: the program and its start.

    ``adapt`` fits the planned start to its surroundings (a container, a job). ``job_script`` is kept with the
    attempt. ``who`` signs the notes in the events. ``staged`` maps what was copied to the nodes to its copies.
    ``usable_nodes`` finds the nodes on which lost ranks of an elastic run can start: out of those it is given, or new.
    ``job_of`` names the job through which a node is reached; it is empty for this job.
    """

    spec: Experiment | Script
    directory: Path
    code_path: tuple[Path, ...] = ()
    options: Options = Options()
    adapt: Callable[[LaunchPlan], Start] = _unchanged
    job_script: Path | None = None
    who: str = SUPERVISOR
    staged: Mapping[str, str] = field(default_factory=dict)
    usable_nodes: Callable[[Collection[str]], frozenset[str]] | None = None
    job_of: Callable[[str], str] | None = None


def make_attempt(
    run: RunFolder,
    request: AttemptRequest,
    signals: RecordedSignals,
    view: View | None = None,
    *,
    restarted: bool = False,
) -> Outcome:
    """Start the ranks as the next attempt of ``run``, and supervise them to the end; the caller holds the run.

    Args:
        run: the run folder.
        request: the program and its start.
        signals: records the signals from the start of the ranks on; the caller closes it.
        view: shows the progress; ``None`` shows nothing.
        restarted: whether the attempt follows a failure by itself; a stop request that has just come then counts.

    Raises:
        UserError: the ranks do not fit.
        EnvironmentLack: the run folder cannot be written, or the machine lacks what the start needs.
    """
    if not restarted:
        with explain_write_errors(run.path, "the run folder"):
            run.withdraw_stop()
    attempt = _new_attempt(run, request)
    request = replace(request, directory=_directory(run, request))
    # With the values of private variables: they reach the ranks' environment, and no file.
    spec = reveal_environment(run, request.spec)
    plan = make_plan(spec, request.directory, request.code_path, request.options, run.path, attempt.number)
    plan = replace(plan, start=request.adapt(plan))
    _record(run, attempt, request, plan)
    # Inside an allocation the cores are Slurm's to give.
    with nullcontext(CoreClaim()) if plan.facts.in_allocation else hold_cores(plan.placement) as claim:
        notes = plan.notes if claim.note is None else (*plan.notes, claim.note)
        _tell(run, attempt, request.who, notes, view)
        environ = {**plan.environment, variables.CORES: ",".join(map(str, claim.cores))}
        metrics, notify = request.spec.launch.metrics, request.spec.notify
        signals.start()  # before others are told of a restart
        with (
            told_of_restart(run, notify, attempt.number, view),
            monitored(run, metrics, view) as shown,
        ):
            outcome = supervise(
                run,
                attempt,
                start=plan.start,
                placement=plan.placement,
                environ=environ,
                signals=signals,
                watching=_limits(request, run.is_script, _surroundings(request, plan), plan.start.starter),
                view=shown,
            )
    with suppress(OSError):  # the server that it names has ended
        attempt.rendezvous.unlink()
    return outcome


def _directory(run: RunFolder, request: AttemptRequest) -> Path:
    """The folder in which the ranks work: a user's program chooses the run folder by ``launch.directory: run``."""
    in_run_folder = run.is_script and request.spec.launch.directory == "run"
    return run.path if in_run_folder else request.directory


def _new_attempt(run: RunFolder, request: AttemptRequest) -> Attempt:
    with explain_write_errors(run.path, "the run folder"):
        end_leftovers(run)
        attempt = run.new_attempt()
        if request.job_script is not None:
            shutil.copy2(request.job_script, attempt.job_script)
        return attempt


def end_leftovers(run: RunFolder) -> None:
    """Kill what the last attempt left here; the caller holds its lock, so its supervisor has ended.

    Its ranks end by themselves within seconds; until then they would write beside the new ranks.
    """
    last = run.last_attempt()
    if last is not None:
        processes.kill_until_gone(lambda: processes.list_attempt_processes(run.path, last.number), LEFTOVER_SECONDS)


def _record(run: RunFolder, attempt: Attempt, request: AttemptRequest, plan: LaunchPlan) -> None:
    """Record in the attempt's folder how its ranks are started."""
    command = request.options.command_line or sys.argv
    private = private_variables(request.spec.written())
    facts = provenance(command, request.directory, plan.facts.mpi, plan.start.starter, private)
    facts = replace(facts, staged=request.staged)
    with explain_write_errors(run.path, "the run folder"):
        plan.placement.write(attempt.placement)
        for file, text in plan.start.files.items():
            write_whole(file, text)
        write_whole(attempt.command, plan.start.without_variables(private).text(run.path))
        facts.write(attempt.provenance)


def _tell(run: RunFolder, attempt: Attempt, who: str, notes: Sequence[str], view: View | None) -> None:
    for note in notes:
        with explain_write_errors(run.path, "the run folder"):
            run.append(EventKind.NOTICE, who, attempt.number, text=note)
        if view is not None:
            view.say(note)


def _surroundings(request: AttemptRequest, plan: LaunchPlan) -> Surroundings | None:
    """The nodes around an elastic run; ``None`` if it stays on this node."""
    if len(plan.placement.nodes) == 1:
        return None
    nodes = (node.name for node in request.options.nodes or ())
    spare = tuple(name for name in nodes if name not in plan.placement.nodes)
    address = plan.facts.address or own_address(os.environ)
    return Surroundings(address, spare, request.usable_nodes, request.job_of)


def _limits(
    request: AttemptRequest, is_script: bool, surroundings: Surroundings | None, starter: str
) -> SupervisionOptions:
    launch, serving = request.spec.launch, serving_processes(request.spec)
    return SupervisionOptions(
        stall_seconds={str(phase): limit for phase, limit in launch.stall_seconds.items()},
        abort_on_stall=launch.on_stall == "abort",
        all_ranks=request.options.all_ranks,
        is_script=is_script,
        restart=launch.restart,
        elastic=launch.elastic,
        surroundings=surroundings,
        exclude_stragglers=launch.on_straggler == "exclude",
        serving=None if serving is None else replace(serving, may_be_lost=starter in ("processes", "steps")),
    )
