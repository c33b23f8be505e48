"""An attempt inside a Slurm job: the start adapted to the cluster, the container and the life of a job."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.launcher.attempts import AttemptRequest, make_attempt
from saman.launcher.plan.environment import forwarded
from saman.launcher.planning import LaunchPlan, Options, gather_facts
from saman.launcher.repeated_attempts import repeat_attempts
from saman.launcher.starters.start import MachineFacts, Start
from saman.launcher.supervision.outcome import Outcome
from saman.launcher.supervision.signals import RecordedSignals
from saman.launcher.supervision.views import SilentView
from saman.runs.events import JOB, EventKind
from saman.runs.folder import RunFolder
from saman.runs.ranks.interfaces import interface_address
from saman.slurm.job.allocation import Allocation, component_nodes
from saman.slurm.job.container import expanded_container, wrap_in_container
from saman.slurm.job.node_failures import lost_nodes, usable_nodes
from saman.slurm.job.nodes_left import on_nodes
from saman.slurm.job.shield import shield_from_sigterm
from saman.slurm.job.stage_out import staging_out
from saman.slurm.job.staging import NodeCopies, staged
from saman.slurm.replacements.nodes import ReplacementNodes, replacement_nodes
from saman.slurm.script.setup_lines import variables_of_setup
from saman.slurm.submission.job_script import environment_of
from saman.slurm.submission.run_jobs import forerunner

LOCK_SECONDS = 150.0  # a lock that a dead node held is given up by the file server within this


class JobLog(SilentView):
    """Notes for the reader of the job's log."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def say(self, text: str) -> None:
        """Print a line at once."""
        self._say(text)


def attempts_in_job(run: RunFolder, cluster: Cluster, here: Allocation, say: Callable[[str], None]) -> Outcome:
    """Start the ranks in this allocation as the run's next attempt, and supervise them to the end.

    With ``launch.restart`` a failed attempt is followed by another on the nodes that are left, spare nodes included.

    Args:
        run: the run folder.
        cluster: the cluster file that the job reads.
        here: this job's allocation.
        say: receives progress messages for the job's log.

    Raises:
        UserError: another supervisor is at work on the run, or the ranks do not fit the allocation.
        EnvironmentLack: the run folder cannot be written, or the node lacks what the start needs.
    """
    spec = run.spec()

    def tell(text: str) -> None:
        say(text)
        run.append(EventKind.NOTICE, JOB, text=text)

    def begin(failed: Outcome | None, signals: RecordedSignals) -> Outcome | None:
        unusable = set() if failed is None else lost_nodes(run, failed, here)
        lost.clear()
        lost.update(unusable)
        left = here.without(lost)
        fitting = spec if failed is None else on_nodes(spec, len(left.nodes))
        if fitting is None:
            tell(f"the run cannot go on here: {len(left.nodes)} nodes of the job are left")
            return None
        if lost:
            tell(f"lost {', '.join(sorted(lost))}; going on with {fitting.resources.ranks} ranks on the nodes left")
        with (
            staging_out(run, cluster.stage_out, left.nodes, os.environ, say),
            _replacements(run, fitting, cluster, left, copies, tell) as replacements,
        ):
            request = _request(run, fitting, cluster, left, copies, replacements)
            return make_attempt(run, request, signals, log, restarted=failed is not None)

    lost: set[str] = set()
    log = JobLog(say)
    with staged(spec, cluster, here, tell, lost) as copies:
        return repeat_attempts(run, begin, log, LOCK_SECONDS)


def _replacements(
    run: RunFolder, spec: Experiment | Script, cluster: Cluster, here: Allocation, copies: NodeCopies,
    tell: Callable[[str], None],
) -> AbstractContextManager[ReplacementNodes | None]:  # fmt: skip
    """The owner of replacement nodes; there are none where nodes have copies of data or of results."""
    if copies.data or copies.environment is not None or cluster.stage_out is not None:
        return nullcontext()
    return replacement_nodes(run, spec, cluster, here.raw_job, tell)


def _request(
    run: RunFolder, spec: Experiment | Script, cluster: Cluster, here: Allocation, copies: NodeCopies,
    replacements: ReplacementNodes | None,
) -> AttemptRequest:  # fmt: skip
    directory = Path(spec.directory) if isinstance(spec, Script) else run.path

    def adapt(plan: LaunchPlan) -> Start:
        start = copies.adapted(plan.start)
        if cluster.container is not None:
            folders = [run.path, directory, *run.code_path]
            container = expanded_container(cluster.container, os.environ)
            start = wrap_in_container(start, container, sys.executable, folders, here.gpus > 0)
        return start if run.is_script else shield_from_sigterm(start, plan.facts.mpi, sys.executable)

    return AttemptRequest(
        spec=spec,
        directory=directory,
        code_path=run.code_path,
        options=Options(run.runs_dir, nodes=here.offers(), facts=job_facts(cluster)),
        adapt=adapt,
        job_script=_job_script(run, here),
        who=JOB,
        staged=copies.record(),
        usable_nodes=usable_nodes(run, here, replacements),
        job_of=replacements.job_of if replacements is not None else None,
    )


def _job_script(run: RunFolder, here: Allocation) -> Path | None:
    """The script that started this job, to be kept with the attempt."""
    script = run.slurm.script if forerunner(run.events(), here.job) is None else run.slurm.follow_up_script
    return script if script.is_file() else None


def job_facts(cluster: Cluster) -> MachineFacts:
    """Facts of this machine, completed by the cluster file."""
    interfaces = cluster.network.interfaces
    names = (*forwarded(os.environ), *environment_of(cluster), *variables_of_setup(cluster))
    return replace(
        gather_facts(),
        in_allocation=True,
        site_starter="mpirun" if cluster.mpi.start == "mpirun" else "srun",
        pmi="none" if cluster.mpi.start == "gloo" else cluster.mpi.pmi,
        interfaces=interfaces,
        address=interface_address(interfaces[0]) if interfaces else None,
        forward=tuple(dict.fromkeys(names)),
        component_nodes=component_nodes(os.environ),
    )
