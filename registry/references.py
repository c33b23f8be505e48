"""Replaces published versions that an experiment names by their files, before the experiment starts.

Ranks do not read the registry: they get paths.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.configs.loading.experiments import LoadedExperiment
from saman.configs.schemas.experiment import Experiment
from saman.configs.schemas.script import Script

PUBLISHED = "published"  # of ``data.checks.reference``: the newest version of the model that the run publishes


def with_versions(experiment: Experiment, models_dir: Path) -> Experiment:
    """Return the experiment with paths in place of published versions.

    Args:
        experiment: The experiment.
        models_dir: The folder of the models.

    Raises:
        UserError: A version does not exist.
    """
    changes: dict[str, Any] = {}
    warm = experiment.train.warm_start
    if warm is not None and not warm.is_file:
        file = _keras_file(models_dir, warm.source)
        start = warm.model_copy(update={"source": str(file)})
        changes["train"] = experiment.train.model_copy(update={"warm_start": start})
    if experiment.data.checks.reference == PUBLISHED:
        checks = experiment.data.checks.model_copy(update={"reference": _newest_manifest(experiment, models_dir)})
        changes["data"] = experiment.data.model_copy(update={"checks": checks})
    return experiment.model_copy(update=changes) if changes else experiment


def resolved(loaded: LoadedExperiment, models_dir: Path) -> LoadedExperiment:
    """Do as ``with_versions`` for a loaded experiment."""
    return replace(loaded, experiment=with_versions(loaded.experiment, models_dir))


def of_program(spec: Experiment | Script, models_dir: Path) -> Experiment | Script:
    """Do as ``with_versions`` for an experiment; return a program of the user's own as it is."""
    return spec if isinstance(spec, Script) else with_versions(spec, models_dir)


def _keras_file(models_dir: Path, name: str) -> Path:
    from saman.registry.store.layout import KERAS_FILE
    from saman.registry.versions import find_version

    version = find_version(models_dir, name)
    file = version.require_visible() / KERAS_FILE
    if not file.is_file():
        raise UserError(f"{name} has no Keras file", where="train.warm_start", remedy="a version that saman published")
    return file


def _newest_manifest(experiment: Experiment, models_dir: Path) -> str | None:
    """The manifest of the newest version; ``None`` before the first, when there is nothing to compare with."""
    from saman.registry.store.layout import MANIFEST, model_folder
    from saman.registry.versions import find_version

    if experiment.publish is None:
        remedy = "publish: {model: NAME}, or the path of a manifest"
        raise UserError("this experiment publishes no model", where="data.checks.reference", remedy=remedy)
    if not model_folder(models_dir, experiment.publish.model).log.exists():
        return None
    return str(find_version(models_dir, experiment.publish.model).require_visible() / MANIFEST)
