"""Runs of a study on a cluster: new runs as job arrays, runs that start again as jobs of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from saman.configs.schemas.cluster import Cluster
from saman.jobs.reconcile import record_ends
from saman.jobs.status import RunState
from saman.jobs.watch import RunWatch
from saman.registry.references import of_program
from saman.runs.folder import RunFolder
from saman.slurm.site.sbatch_check import check_extra_options
from saman.slurm.submission import planning
from saman.slurm.submission.arrays import NoRoomError, submit_many
from saman.slurm.submission.code_copy import Snapshot, code_copy
from saman.slurm.submission.planning import SubmissionPlan
from saman.slurm.submission.run_jobs import jobs_of
from saman.slurm.submission.submit import create_run, resubmit
from saman.tuning.places.place import Seen
from saman.tuning.plan import RunSpec


class OnSlurm:
    """Submits the runs of a study.

    Args:
        cluster: The cluster.
        partition: A partition; ``None`` for the cheapest that fits.
        runs_dir: The folder of runs.
        models_dir: The folder of models.
        exclude: Names of nodes that no run may use.
        say: Receives a sentence when Slurm takes no more jobs.
    """

    def __init__(
        self,
        cluster: Cluster,
        partition: str | None,
        runs_dir: Path,
        models_dir: Path,
        exclude: Sequence[str] = (),
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        check_extra_options(cluster.sbatch, f"cluster {cluster.name}")
        self._cluster, self._partition, self._exclude, self._say = cluster, partition, tuple(exclude), say
        self._runs_dir, self._models_dir = runs_dir, models_dir
        self._code: dict[tuple[Path, ...], Snapshot | None] = {}
        self._watch = RunWatch(())

    def start(self, specs: Sequence[RunSpec]) -> list[RunFolder]:
        """Submit runs as job arrays, as many as Slurm takes now."""
        if not specs:
            return []
        made: dict[int, RunSpec] = {}
        plans = []
        for each in specs:
            spec = of_program(each.spec, self._models_dir)
            plan = planning.plan(spec, self._cluster, self._runs_dir, self._partition, draw=False)
            made[id(plan)] = each
            plans.append(plan)
        runs: list[RunFolder] = []

        def create(plan: SubmissionPlan) -> RunFolder:
            each = made[id(plan)]
            code = self._copy_of(each)
            run = create_run(plan, each.code_path, code, self._models_dir, trial=each.key)
            runs.append(run)
            return run

        try:
            submit_many(plans, create, exclude=self._exclude)
        except NoRoomError as error:
            self._say(error.problem)
        return [run for run in runs if run.path.is_dir() and jobs_of(run.events())]

    def _copy_of(self, each: RunSpec) -> Snapshot | None:
        """The copy of the user's code: the same for all runs that this process submits."""
        if each.code_path not in self._code:
            self._code[each.code_path] = code_copy(
                each.spec, each.code_path, self._runs_dir, models_dir=self._models_dir
            )
        return self._code[each.code_path]

    def restart(self, run: RunFolder) -> None:
        """Submit a run again, from its newest checkpoint."""
        resubmit(run, self._partition, self._exclude)
        self._watch.forget(run)  # else its old end would be taken for that of the new start

    def look(self, runs: Sequence[RunFolder]) -> list[Seen]:
        """Look at runs; Slurm is asked about all of them at once."""
        self._watch.follow(runs)
        statuses = record_ends(runs, self._watch.look())
        return [
            Seen(status, idle=status.state is RunState.CREATED and status.job is None and status.attempt == 0)
            for status in statuses
        ]

    def close(self) -> None:
        """Leave the jobs to Slurm: the same command goes on with them."""
