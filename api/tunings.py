"""Tuning in Python, and the steps that ``saman tune`` and ``saman.tune`` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.errors import UserError

if TYPE_CHECKING:
    from saman.tuning.places.place import Place
    from saman.tuning.plan import TuningPlan
    from saman.tuning.study import TuningResult


@dataclass(frozen=True)
class PreparedTuning:
    """A planned tuning study and its place."""

    plan: TuningPlan
    place: Place
    runs_dir: Path
    models_dir: Path
    note: str | None = None  # where a default cluster comes from


def prepare_tuning(
    name: str,
    runs_dir: Path,
    models_dir: Path = Path("models"),
    cluster: str | None = None,
    partition: str | None = None,
    settings: Sequence[str] = (),
    exclude: Sequence[str] = (),
    say: Callable[[str], None] = lambda text: None,
) -> PreparedTuning:
    """Load a tuning study and choose its place; starts nothing.

    Args:
        name: A study file, or the name of a shipped study.
        runs_dir: Folder of the runs.
        models_dir: Folder of the models.
        cluster: A cluster file by name or path; ``None`` for this machine.
        partition: A partition of the cluster.
        settings: ``KEY=VALUE``: a key of the study or of its experiment.
        exclude: Nodes of the cluster that no run may use.
        say: Receives a sentence when Slurm takes no more jobs.

    Raises:
        UserError: The study or the cluster file has mistakes.
    """
    from saman.slurm.site.access import require_here
    from saman.slurm.site.default_cluster import choose_cluster
    from saman.tuning.places.here import Here
    from saman.tuning.places.on_slurm import OnSlurm
    from saman.tuning.plan import make_plan

    plan = make_plan(name, settings)
    if cluster is None and (partition is not None or exclude):
        option = "--partition" if partition is not None else "--exclude"
        raise UserError("this machine has neither partitions nor nodes to avoid", where=option, remedy="--cluster NAME")
    runs, models = runs_dir.absolute(), models_dir.absolute()
    if cluster is None:
        return PreparedTuning(plan, Here(runs, models), runs, models)
    chosen = choose_cluster(cluster)
    site = require_here(chosen.load(()), "a tuning study")
    if partition is not None:
        site.partition(partition)  # a name that is wrong would fail every trial
    return PreparedTuning(plan, OnSlurm(site, partition, runs, models, exclude, say), runs, models, chosen.note)


def tune(
    name: str | PathLike[str],
    *,
    cluster: str | PathLike[str] | None = None,
    partition: str | None = None,
    continued: Sequence[int] = (),
    runs_dir: str | PathLike[str] = "runs",
    models_dir: str | PathLike[str] = "models",
    dry_run: bool = False,
    quiet: bool = False,
) -> TuningResult:
    """Search for the best values of an experiment's keys, and return when the study is complete.

    Args:
        name: A study file, or the name of a shipped study.
        cluster: Submit the trials there, as job arrays; default: run them on this machine.
        partition: Default: the cheapest partition that fits.
        continued: Numbers of pruned trials to continue to their end.
        runs_dir: The folder of the runs.
        models_dir: Where the best model is published.
        dry_run: Only look at the trials so far.
        quiet: Do not print a line for each trial on standard error.

    Returns:
        The study: ``.trials``, ``.best``, ``.confirmed``. The same call goes on where an earlier one stopped.

    Raises:
        UserError: The study has mistakes, or is being run already.
        EnvironmentLack: Optuna is missing (``pip install 'saman[tune]'``).

    Example:
        >>> import saman
        >>> study = saman.tune("digits", dry_run=True)
        >>> study.plan.study.most_trials, len(study.trials)
        (20, 0)
    """
    import sys

    from saman.tuning.study import read_study, run_study

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr, flush=True)

    site = None if cluster is None else str(cluster)
    ready = prepare_tuning(str(name), Path(runs_dir), Path(models_dir), site, partition, say=say)
    if dry_run:
        return read_study(ready.plan, ready.place, ready.runs_dir)
    return run_study(ready.plan, ready.place, ready.runs_dir, ready.models_dir, continued, say)
