"""Scaling studies in Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from saman.api import html
from saman.api.progress import progress_view
from saman.api.reports import Report, report
from saman.api.runs import Run
from saman.configs.errors import ExitCode

if TYPE_CHECKING:
    from saman.configs.schemas.cluster import Cluster
    from saman.scaling.study.execution import PlannedRunStatus
    from saman.scaling.study.plan import PlannedRun, StudyPlan


class StudyRuns:
    """The planned runs of a study and what there is of each. A notebook shows them as a table."""

    def __init__(self, plan: StudyPlan, runs_dir: Path) -> None:
        self.plan = plan
        self._runs_dir = runs_dir

    def __repr__(self) -> str:
        return f"<saman.StudyRuns {self.name}: {self._counted(self.planned)}>"

    @property
    def name(self) -> str:
        """The study's name."""
        return self.plan.study.name

    @property
    def planned(self) -> Sequence[PlannedRunStatus]:
        """Every planned run: its settings, its repeat, whether it is done, and its run folder."""
        from saman.scaling.study.execution import standings

        return standings(self.plan, self._runs_dir)

    @property
    def runs(self) -> list[Run]:
        """The runs that exist, in the order of the plan."""
        return [Run(planned.run) for planned in self.planned if planned.run is not None]

    def report(self) -> Report:
        """Report how the study's runs scale.

        Returns:
            The same as ``saman.report(study)``.

        Raises:
            UserError: The study has no runs yet.

        Example:
            >>> import saman
            >>> saman.study("study.yaml", dry_run=True).report().title
            'small'
        """
        return report(self._runs_dir / self.name, runs_dir=self._runs_dir)

    @staticmethod
    def _counted(planned: Sequence[PlannedRunStatus]) -> str:
        return ", ".join(f"{count} {standing}" for standing, count in Counter(run.standing for run in planned).items())

    def _repr_html_(self) -> str:
        found = self.planned
        axes = list(self.plan.study.axes)
        rows = (
            (*(run.planned.settings[axis] for axis in axes), run.planned.repeat, run.standing, run.run and run.run.id)
            for run in found
        )
        return html.title(f"{self.name}: {self._counted(found)}") + html.table((*axes, "repeat", "state", "run"), rows)


def study(
    name: str | PathLike[str],
    *,
    cluster: str | PathLike[str] | None = None,
    partition: str | None = None,
    runs_dir: str | PathLike[str] = "runs",
    dry_run: bool = False,
    quiet: bool = False,
) -> StudyRuns:
    """Run what is missing of a scaling study: here, run by run, or on a cluster as job arrays.

    Args:
        name: A study file, or the name of a shipped study.
        cluster: Submit there and return at once; default: run here and return when all have ended.
        partition: Default: the cheapest partition that fits.
        runs_dir: The folder of the runs.
        dry_run: Only look at what is planned and done.
        quiet: Do not print a line for each epoch on standard error.

    Returns:
        The planned runs; ``.planned`` says which are done and which failed, ``.report()`` how they scale.

    Raises:
        UserError: The study has mistakes, is being run already, or may exceed its cap on node-hours.
        KeyboardInterrupt: A run was interrupted; the same call continues with the rest.

    Example:
        >>> import saman
        >>> study = saman.study("study.yaml", quiet=True)
        >>> study
        <saman.StudyRuns small: 4 done>
        >>> study.report().tables["points"]["ranks"].to_list()
        [1, 2]
    """
    from saman.configs.loading.clusters import load_cluster
    from saman.configs.loading.studies import load_study
    from saman.jobs.reconcile import reconcile
    from saman.scaling.study.execution import unfinished_runs
    from saman.scaling.study.plan import cores_of_nodes, make_plan

    site = None if cluster is None else load_cluster(str(cluster))
    loaded, file = load_study(str(name))
    found = StudyRuns(make_plan(loaded, file, cores_of_nodes(site, partition)), Path(runs_dir))
    if site is not None:
        reconcile(unfinished_runs(found.plan, Path(runs_dir)))
    if dry_run:
        return found
    if site is None:
        _run_here(found.plan, Path(runs_dir), quiet)
    else:
        _submit(found.plan, site, partition, Path(runs_dir))
    return found


def _run_here(plan: StudyPlan, runs_dir: Path, quiet: bool) -> None:
    from saman.scaling.study.execution import run_missing

    for _, outcome in run_missing(plan, runs_dir, lambda planned: progress_view(planned.loaded.experiment.name, quiet)):
        if outcome.exit_code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt(outcome.message)


def _submit(plan: StudyPlan, site: Cluster, partition: str | None, runs_dir: Path) -> None:
    from saman.jobs.submission import SubmissionOptions, submit_experiments
    from saman.scaling.study.execution import submit_missing

    options = SubmissionOptions(runs_dir=runs_dir, partition=partition)

    def send(wanted: Sequence[PlannedRun]) -> None:
        submit_experiments([planned.loaded for planned in wanted], site, options, plan.study.concurrency)

    submit_missing(plan, runs_dir, send)
