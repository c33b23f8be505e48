"""Load, run and submit experiments from Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from saman.api.progress import progress_view
from saman.api.runs import Run, check_end
from saman.configs.errors import UserError
from saman.configs.loading.experiments import LoadedExperiment


def load_experiment(path: str | PathLike[str], *, ranks: int | None = None, **overrides: Any) -> LoadedExperiment:
    """Load and check an experiment file from Python.

    Args:
        path: A YAML file, or the name of a shipped experiment.
        ranks: Number of ranks, spread evenly over the experiment's nodes; the same as ``-np``.
        **overrides: Changed keys. Two underscores stand for the dot of a key path: ``train__epochs=2`` is the command
            line's ``train.epochs=2``. A dictionary of key paths works too: ``**{"train.epochs": 2}``.

    Returns:
        The checked experiment (``.experiment``), its file, and the folders of the user's code.

    Raises:
        UserError: The file has mistakes; the error lists each with its key and what would be right.

    Example:
        >>> import saman
        >>> loaded = saman.load_experiment("quickstart", ranks=2, train__epochs=1, publish=None)
        >>> loaded.experiment.train.epochs
        1
        >>> saman.load_experiment("quickstart", train__epoch=1)
        Traceback (most recent call last):
        saman.configs.errors.UserError: ...train.epoch: unknown key (did you mean 'epochs'? valid: ...
    """
    from saman.configs.loading.experiments import load_experiment as load

    return load(str(path), override_texts(overrides), ranks)


def run(
    experiment: LoadedExperiment | str | PathLike[str],
    *,
    ranks: int | None = None,
    runs_dir: str | PathLike[str] = "runs",
    models_dir: str | PathLike[str] = "models",
    quiet: bool = False,
) -> Run:
    """Train an experiment on this machine and return when it has ended.

    Does what ``saman run`` does, publishing included.

    Args:
        experiment: What ``load_experiment`` returned, or the name or path of an experiment file.
        ranks: Number of ranks; default: what the experiment says.
        runs_dir: The folder of the runs.
        models_dir: Where the model is published, if the experiment says so.
        quiet: Do not print a line for each epoch on standard error.

    Returns:
        The completed run; ``preempted`` if it stopped at a checkpoint on request.

    Raises:
        UserError: The experiment cannot run as it is written; nothing was started.
        EnvironmentLack: The machine lacks something; nothing was started.
        RunFailed: A rank failed, or publishing did; the error's ``run`` has the logs.
        KeyboardInterrupt: The run was interrupted; all its ranks have ended.

    Example:
        >>> import saman
        >>> experiment = saman.load_experiment("quickstart", train__epochs=1, publish=None)
        >>> run = saman.run(experiment, ranks=2, quiet=True)
        >>> run.state
        'completed'
    """
    from saman.jobs.local import run_here
    from saman.launcher.planning import Options
    from saman.slurm.job.interactive import with_allocation

    loaded = loaded_experiment(experiment, ranks)
    view = progress_view(loaded.experiment.name, quiet)
    what, options = with_allocation(loaded, Options(runs_dir=Path(runs_dir)), ranks)
    return check_end(run_here(what, options, Path(models_dir), view))


def submit(
    experiment: LoadedExperiment | str | PathLike[str],
    *,
    cluster: str | PathLike[str] | None = None,
    ranks: int | None = None,
    partition: str | None = None,
    after: Sequence[Run | str] = (),
    after_any: Sequence[Run | str] = (),
    runs_dir: str | PathLike[str] = "runs",
    models_dir: str | PathLike[str] = "models",
) -> Run:
    """Submit an experiment to Slurm and return at once.

    Args:
        experiment: What ``load_experiment`` returned, or the name or path of an experiment file.
        cluster: A cluster file: the name of a shipped file or of your own, or a path; default: your default cluster.
        ranks: Number of ranks; default: what the experiment says.
        partition: Default: the cheapest partition that fits.
        after: Runs, names of studies or workflows, or ids of Slurm jobs that must complete before.
        after_any: The same, which must end before, whatever their result.
        runs_dir: The folder of the runs; every node must see it.
        models_dir: Where the job publishes the model, if the experiment says so.

    Returns:
        The queued run; ``run.wait()`` returns when it has ended.

    Raises:
        UserError: The experiment does not fit the cluster or a quota, or Slurm refuses the job.
        EnvironmentLack: Slurm does not answer.

    Example:
        >>> import saman
        >>> run = saman.submit("my.yaml", cluster="minicluster", ranks=2)
        >>> run.wait().state
        'completed'
    """
    from saman.jobs.workflows.prerequisites import dependency_on
    from saman.registry.references import resolved
    from saman.slurm.site.access import require_here
    from saman.slurm.site.default_cluster import choose_cluster
    from saman.slurm.submission.run_submission import SubmissionOptions, submit_run

    loaded = resolved(loaded_experiment(experiment, ranks), Path(models_dir).absolute())
    ok, ended = ([each if isinstance(each, str) else str(each.path) for each in some] for some in (after, after_any))
    options = SubmissionOptions(
        runs_dir=Path(runs_dir), models_dir=Path(models_dir), partition=partition,
        dependency=dependency_on(ok, ended, Path(runs_dir)),
    )  # fmt: skip
    chosen = choose_cluster(None if cluster is None else str(cluster))
    site = require_here(chosen.load(), "saman.submit")
    submitted = submit_run(loaded.experiment, site, loaded.code_path, options)
    return Run(submitted.submissions[0].run)


def loaded_experiment(experiment: LoadedExperiment | str | PathLike[str], ranks: int | None) -> LoadedExperiment:
    """Load an experiment by name or path, or take a loaded experiment, and set its number of ranks."""
    if not isinstance(experiment, LoadedExperiment):
        return load_experiment(experiment, ranks=ranks)
    if ranks is None:
        return experiment
    from saman.configs.loading.experiments import with_ranks
    from saman.configs.problems import validated

    values = with_ranks(experiment.experiment.resolved(), ranks)
    return replace(experiment, experiment=validated(type(experiment.experiment), values, str(experiment.file)))


def override_texts(overrides: Mapping[str, Any]) -> list[str]:
    """Turn keyword overrides into ``key.path=value``, the form of the command line."""
    return list(_texts(overrides.items()))


def _texts(overrides: Iterable[tuple[str, Any]]) -> Iterable[str]:
    for name, value in overrides:
        key = name.replace("__", ".")
        try:
            yield f"{key}={json.dumps(value, default=_plain)}"
        except (TypeError, ValueError):
            problem = f"a {type(value).__name__} cannot be a value of an experiment"
            raise UserError(problem, where=key, remedy="a number, text, list or dictionary") from None


def _plain(value: Any) -> Any:
    """A NumPy number as Python's, a path as text."""
    if isinstance(value, PathLike):
        return str(value)
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        return value.item()
    raise TypeError
