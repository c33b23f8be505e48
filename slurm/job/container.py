"""Runs ranks in an Apptainer or Singularity image; wrapper, supervisor and Slurm's commands stay outside. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from saman.configs.schemas.cluster import Container
from saman.configs.variables_in_text import expand
from saman.launcher.starters.start import Command, Start


def wrap_in_container(
    start: Start, container: Container, host_python: str, folders: Iterable[Path], gpus: bool
) -> Start:
    """Wrap the program of each rank, and the companions, in the container's ``exec`` command.

    Args:
        start: the start; a rank's program follows ``--`` in its command.
        container: the image and its options.
        host_python: the Python outside; a program that starts with it gets the image's Python instead.
        folders: folders to bind at their own paths: the run and the user's code.
        gpus: whether the job has GPUs.
    """
    inside = [*_exec(container, folders, gpus)]

    def program(argv: tuple[str, ...]) -> tuple[str, ...]:
        python = (container.python,) if argv[:1] == (host_python,) else argv[:1]
        return (*inside, *python, *argv[1:])

    def rank(command: Command) -> Command:
        at = command.argv.index("--") + 1
        return replace(command, argv=(*command.argv[:at], *program(command.argv[at:])))

    companions = tuple(replace(companion, argv=program(companion.argv)) for companion in start.companions)
    note = f"ranks run in {container.image}"
    return replace(start, commands=tuple(map(rank, start.commands)), companions=companions, notes=(*start.notes, note))


def expanded_container(container: Container, environ: Mapping[str, str]) -> Container:
    """The container with the variables of its texts expanded; raises ``EnvironmentLack`` if one is not set."""
    texts = {name: expand(getattr(container, name), environ) for name in ("image", "python")}
    return container.model_copy(update={**texts, "binds": [expand(bind, environ) for bind in container.binds]})


def _exec(container: Container, folders: Iterable[Path], gpus: bool) -> list[str]:
    words = [container.engine, "exec"]
    kinds = {"auto": "--nv" if gpus else None, "nvidia": "--nv", "rocm": "--rocm", "none": None}
    flag = kinds[container.gpu]
    words += [flag] if flag else []
    for bind in container.binds:
        words += ["--bind", bind]
    for folder in dict.fromkeys(folders):
        words += ["--bind", str(folder)]
    return [*words, container.image]
