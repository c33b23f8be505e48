"""One attempt inside a Slurm job: the ranks started in this cluster's way, and what that leaves in the run folder."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.files import write_json, write_whole
from saman.configs.schemas.cluster import Cluster
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script
from saman.launcher.local import LaunchPlan, Options, gather_facts, make_plan
from saman.launcher.node.provenance import provenance
from saman.launcher.plan.environment import forwarded
from saman.launcher.starters.start import MachineFacts, Start
from saman.launcher.supervision.outcome import Outcome
from saman.launcher.supervision.run_lock import alone
from saman.launcher.supervision.supervisor import SupervisionOptions, supervise
from saman.launcher.supervision.views import SilentView
from saman.runs.folder import Attempt, RunFolder
from saman.slurm.job.allocation import Allocation
from saman.slurm.job.container import contained
from saman.slurm.job.shield import shielded
from saman.slurm.submission.job_script import environment_of
from saman.slurm.submission.run_jobs import forerunner

LOCK_SECONDS = 150.0  # a lock that a dead node held is given up by the file server within this


class _Printed(SilentView):
    """What a person reads in the job's log."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say

    def say(self, text: str) -> None:
        """One line, at once."""
        self._say(text)


def make_attempt(run: RunFolder, cluster: Cluster, here: Allocation, say: Callable[[str], None]) -> Outcome:
    """Start the ranks in this allocation as the run's next attempt, and see them through to the end."""
    with _alone_soon(run):
        run.withdraw_stop()
        attempt = run.new_attempt()
        name = "job.sbatch" if forerunner(run.events(), here.job) is None else "follow-up.sbatch"
        if (script := run.path / "slurm" / name).is_file():
            shutil.copy2(script, attempt.path / "job.sbatch")
        spec = with_starter(run.spec(), cluster)
        plan, start = _plan(run, spec, cluster, here, attempt)
        write_json(attempt.placement, plan.placement.to_json())
        write_whole(attempt.command, start.text(run.path))
        facts = provenance(sys.argv, plan.directory, plan.facts.mpi, start_method=start.starter)
        write_json(attempt.provenance, facts)
        for note in (*plan.placement.notes, *start.notes):
            run.append("notice", "job", attempt.number, text=note)
            say(note)
        watching = SupervisionOptions(
            stall_seconds={str(phase): limit for phase, limit in spec.launch.stall_seconds.items()},
            abort_on_stall=spec.launch.on_stall == "abort",
            is_script=run.is_script,
        )
        return supervise(run, attempt, start, plan.placement, plan.environment, watching, _Printed(say))


def _plan(
    run: RunFolder, spec: Experiment | Script, cluster: Cluster, here: Allocation, attempt: Attempt
) -> tuple[LaunchPlan, Start]:
    """The plan as for a local run, and its start as this cluster and the life of a job want it."""
    directory = Path(spec.directory) if isinstance(spec, Script) else run.path
    options = Options(run.path.parent.parent, nodes=here.offers(), facts=job_facts(spec, cluster))
    plan = make_plan(spec, directory, run.code_path, options, run.path, attempt.number)
    start = plan.start
    if cluster.container is not None:
        folders = [run.path, directory, *run.code_path]
        start = contained(start, cluster.container, sys.executable, folders, here.gpus > 0)
    return plan, start if run.is_script else shielded(start, plan.facts.mpi, sys.executable)


def with_starter(spec: Experiment | Script, cluster: Cluster) -> Experiment | Script:
    """``spec`` with ``auto`` replaced by how this site starts ranks."""
    if spec.launch.starter != "auto":
        return spec
    starter = "mpirun" if cluster.mpi.start == "mpirun" else "srun"
    return spec.model_copy(update={"launch": spec.launch.model_copy(update={"starter": starter})})


def job_facts(spec: Experiment | Script, cluster: Cluster) -> MachineFacts:
    """What is known of the machine, with what the cluster file says."""
    found = gather_facts()
    names = (*forwarded(os.environ), *environment_of(cluster))
    return replace(
        found,
        in_allocation=True,
        pmi="none" if cluster.mpi.start == "gloo" else cluster.mpi.pmi,
        interface=cluster.network.interface,
        forward=tuple(dict.fromkeys(names)),
    )


class _alone_soon:  # noqa: N801  (a context manager that reads like its verb)
    """``alone``, tried again while a dead node's lock is still held."""

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self.held = alone(run)

    def __enter__(self) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                return self.held.__enter__()
            except UserError as error:
                if isinstance(error, EnvironmentLack) or time.monotonic() > deadline:
                    raise
                time.sleep(1.0)
                self.held = alone(self.run)

    def __exit__(self, *details: object) -> None:
        self.held.__exit__(None, None, None)
