"""Tuning in Python, and the steps that ``saman tune`` and ``saman.tune`` share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from saman.configs.errors import UserError

if TYPE_CHECKING:
    from saman.tuning.machine.search import MachineSearch, SearchResult
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


def prepare_autotune(name: str, changes: Sequence[str] = (), ranks: int | None = None) -> MachineSearch:
    """Prepare ``saman.autotune``: find what the search can choose for an experiment; starts nothing.

    Inside a Slurm allocation the search runs on the nodes of the allocation.

    Args:
        name: The experiment: a file, or the name of a shipped one.
        changes: ``KEY=VALUE``: changes of the experiment.
        ranks: Number of ranks (``-np``).

    Raises:
        UserError: The experiment has mistakes, or does not fit the machine.
    """
    import os

    from saman.slurm.job.interactive import is_inside, nodes_of_allocation
    from saman.tuning.machine.search import prepare_search

    nodes = nodes_of_allocation(os.environ) if is_inside(os.environ) else None
    return prepare_search(name, changes, ranks, nodes)


def run_autotune(
    wanted: MachineSearch, file: Path, runs_dir: Path, seconds: float, say: Callable[[str], None]
) -> SearchResult:
    """Carry out ``saman.autotune``: search, and write the file to include.

    Args:
        wanted: What is searched.
        file: The file to write.
        runs_dir: Folder of the runs.
        seconds: Seconds of training that each run measures.
        say: Receives a sentence after each run.

    Raises:
        UserError: The file cannot be written.
        EnvironmentLack: A run failed.
    """
    import tempfile
    from functools import partial

    from saman.tuning.machine.search import measure_run, search
    from saman.tuning.machine.settings_file import write_settings

    if file.is_dir():
        raise UserError("is a folder", where=str(file), remedy=f"a file: {file / 'settings.yaml'}")
    try:  # before ten runs, not after them
        file.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise UserError(f"cannot be written: {error.strerror}", where=str(file), remedy="--output FILE") from None
    result = search(wanted, partial(measure_run, wanted, runs_dir.absolute(), seconds), say)
    write_settings(result, file)
    return result


def autotune(
    name: str | PathLike[str],
    file: str | PathLike[str],
    *,
    ranks: int | None = None,
    seconds: float = 15.0,
    changes: Sequence[str] = (),
    runs_dir: str | PathLike[str] = "runs",
    quiet: bool = False,
) -> SearchResult:
    """Find threads, binding and Horovod's settings for this machine in ten short runs.

    Args:
        name: The experiment: a file, or the name of a shipped one.
        file: The file to write, for ``include:`` in the experiment.
        ranks: Number of ranks.
        seconds: Seconds of training that each run measures.
        changes: ``KEY=VALUE``: changes of the experiment.
        runs_dir: The folder of the runs.
        quiet: Do not print a line for each run on standard error.

    Returns:
        The search: ``.runs``, ``.chosen``, ``.gain``.

    Raises:
        UserError: The experiment has mistakes, or does not fit the machine.
        EnvironmentLack: A run failed.

    Example:
        >>> import saman
        >>> found = saman.autotune("quickstart", "settings.yaml", ranks=1, seconds=1, quiet=True)
        >>> len(found.runs)
        10
    """
    import sys

    def say(text: str) -> None:
        if not quiet:
            print(text, file=sys.stderr, flush=True)

    wanted = prepare_autotune(str(name), changes, ranks)
    return run_autotune(wanted, Path(file), Path(runs_dir), seconds, say)
