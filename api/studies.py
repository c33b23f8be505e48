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
from saman.api.study_plans import prepare_study, submit_study
from saman.configs.errors import ExitCode

if TYPE_CHECKING:
    from saman.api.study_plans import PreparedStudy
    from saman.launcher.supervision.views import View
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
        """The study's name, for Python and notebooks."""
        return self.plan.study.name

    @property
    def planned(self) -> Sequence[PlannedRunStatus]:
        """Every planned run: its settings, its repeat, whether it is done, and its run folder."""
        from saman.scaling.study.execution import planned_run_states

        return planned_run_states(self.plan, self._runs_dir)

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
        return ", ".join(f"{count} {state}" for state, count in Counter(run.state for run in planned).items())

    def _repr_html_(self) -> str:
        found = self.planned
        axes = list(self.plan.study.axes)
        rows = (
            (*(run.planned.settings[axis] for axis in axes), run.planned.repeat, run.state, run.run and run.run.id)
            for run in found
        )
        return html.html_title(f"{self.name}: {self._counted(found)}") + html.html_table(
            (*axes, "repeat", "state", "run"), rows
        )


def study(
    name: str | PathLike[str],
    *,
    cluster: str | PathLike[str] | None = None,
    partition: str | None = None,
    runs_dir: str | PathLike[str] = "runs",
    dry_run: bool = False,
    quiet: bool = False,
) -> StudyRuns:
    """Run the missing runs of a scaling study from Python: here, run by run, or on a cluster as job arrays.

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
    prepared = prepare_study(str(name), Path(runs_dir), None if cluster is None else str(cluster), partition)
    if not dry_run:
        if prepared.cluster is None:
            _run_here(prepared, quiet)
        else:
            submit_study(prepared, prepared.cluster)
    return StudyRuns(prepared.plan, prepared.runs_dir)


def _run_here(study: PreparedStudy, quiet: bool) -> None:
    from saman.scaling.study.execution import run_missing

    def view(planned: PlannedRun) -> View | None:
        return progress_view(planned.loaded.experiment.name, quiet)

    for _, outcome in run_missing(study.plan, study.runs_dir, view, study.nodes):
        if outcome.exit_code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt(outcome.message)
