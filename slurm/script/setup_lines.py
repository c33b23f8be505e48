"""The set-up of a job as shell lines: each typed step, quoted, and the check that it took effect. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from saman.configs.home_folder import in_home
from saman.configs.schemas.cluster import Cluster
from saman.configs.site.setup import SoftwareStep
from saman.runs.paths.run import RunPaths
from saman.slurm.script.quoting import ShellText, expanded, option, shell
from saman.slurm.script.templates import template


def setup_lines(cluster: Cluster, python: ShellText) -> ShellText | None:
    """The lines of the set-up; ``None`` if the cluster file has none.

    Args:
        cluster: the cluster file: the steps of ``software``, then those of ``setup``.
        python: the Python that has to be there afterwards, quoted.
    """
    steps = [_values(key, step) for key, step in steps_of(cluster)]
    if not steps:
        return None
    kinds = {step["kind"] for step in steps}
    needs = {"modules": bool(kinds & {"modules", "collection"}), "conda": "conda" in kinds}
    failure = shell(RunPaths(Path()).slurm.setup_failure)
    values = {"steps": steps, "needs": needs, "python": python, "failure": failure}
    return ShellText(template("saman.slurm.script", "setup.sh.j2").render(values))


def steps_of(cluster: Cluster) -> Sequence[tuple[str, SoftwareStep]]:
    """Every step with its key in the cluster file, in order."""
    own = [(f"software.{step.kind}", step) for step in cluster.software.steps()]
    return [*own, *((f"setup[{index}].{step.kind}", step) for index, step in enumerate(cluster.setup))]


def variables_of_setup(cluster: Cluster) -> tuple[str, ...]:
    """Names of the variables that a job script's sourced set-up files set, for ranks on other nodes."""
    return tuple(name for _, step in steps_of(cluster) if step.source is not None for name in step.source.sets)


def _values(key: str, step: SoftwareStep) -> dict[str, Any]:
    """The values of a step as the template names them, quoted."""
    own: dict[str, Any] = {"kind": step.kind, "key": shell(key)}
    if step.modules is not None:
        modules = step.modules
        return own | {"purge": modules.purge, "use": _paths(modules.use), "load": [*map(expanded, modules.load)]}
    if step.collection is not None:
        return own | {"name": expanded(step.collection.name), "modules": [*map(expanded, step.collection.modules)]}
    if step.source is not None:
        return own | {"file": path_text(step.source.file), "sets": [*map(option, step.source.sets)]}
    if step.virtualenv is not None:
        return own | {"folder": path_text(step.virtualenv)}
    if step.uv is not None:
        return own | {"kind": "virtualenv", "folder": path_text(f"{step.uv.project}/.venv")}
    if step.eessi is not None:
        folder = path_text(f"{step.eessi.root}/versions/{step.eessi.version}")
        return own | {"version": shell(step.eessi.version), "folder": folder}
    return own | _environment(step)


def _environment(step: SoftwareStep) -> dict[str, Any]:
    if step.conda is not None:
        return {"root": path_text(step.conda.root), "environment": expanded(step.conda.environment)}
    if step.pixi is not None:
        program, manifest = path_text(step.pixi.program), path_text(step.pixi.manifest)
        return {"program": program, "manifest": manifest, "environment": expanded(step.pixi.environment)}
    assert step.spack is not None
    environment = step.spack.environment
    return {
        "root": path_text(step.spack.root),
        "environment": None if environment is None else expanded(environment),
        "load": [*map(expanded, step.spack.load)],
    }


def _paths(folders: Sequence[str]) -> list[ShellText]:
    return [path_text(folder) for folder in folders]


def path_text(path: str) -> ShellText:
    """A path as one word of bash; ``~/`` is the home of the submitting user."""
    return expanded(in_home(path) if path.startswith("~") else path)
