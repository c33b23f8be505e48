"""Ranks inside an Apptainer or Singularity image; wrapper, supervisor and Slurm's commands stay outside. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from saman.configs.schemas.cluster import Container
from saman.launcher.starters.start import Command, Start


def contained(start: Start, container: Container, host_python: str, folders: Iterable[Path], gpus: bool) -> Start:
    """``start`` with each rank's program, and the rendezvous, run in the image.

    The program is what stands behind ``--``; where it is the host's Python it becomes the image's. ``folders`` (the
    run and the user's code) are bound at their own paths.
    """
    inside = [*_exec(container, folders, gpus)]

    def program(argv: tuple[str, ...]) -> tuple[str, ...]:
        python = (container.python,) if argv[:1] == (host_python,) else argv[:1]
        return (*inside, *python, *argv[1:])

    def rank(command: Command) -> Command:
        at = command.argv.index("--") + 1
        return replace(command, argv=(*command.argv[:at], *program(command.argv[at:])))

    companions = tuple(replace(one, argv=program(one.argv)) for one in start.companions)
    note = f"ranks run in {container.image}"
    return replace(start, commands=tuple(map(rank, start.commands)), companions=companions, notes=(*start.notes, note))


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
