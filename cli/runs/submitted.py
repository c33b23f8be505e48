"""What ``saman submit`` submits: an experiment or a program, here or on a login node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saman.cli.remote.submission import Submittal
    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script


def find_spec(
    arguments: list[str], program: list[str] | None, ranks: int | None, legacy_keras: bool
) -> tuple[Experiment | Script, Sequence[Path]]:
    """The experiment or program to run, and the folders of its code."""
    from saman.configs.loading.experiments import load_experiment
    from saman.launcher.programs import script_from_command

    if program is not None:
        return script_from_command(program, arguments, ranks, legacy_keras), (Path.cwd(),)
    _require_experiment(arguments)
    loaded = load_experiment(arguments[0], arguments[1:], ranks)
    return loaded.experiment, loaded.code_path


def typed_spec(
    arguments: list[str], changed: list[str], program: list[str] | None, ranks: int | None, legacy_keras: bool
) -> Submittal:
    """What ``saman submit`` sends to another machine: checked, as far as it can be checked here.

    Args:
        arguments: The arguments as typed.
        changed: The arguments, and the changes by other options.
        program: What follows ``--``.
        ranks: ``-np``.
        legacy_keras: ``--legacy-keras``.
    """
    from saman.cli.remote.submission import Submittal
    from saman.configs.loading.experiments import read_experiment
    from saman.configs.loading.files import shipped
    from saman.launcher.programs import script_from_command

    if program is not None:
        spec = script_from_command(program, changed, ranks, legacy_keras)
        return Submittal(spec, tuple(arguments), tuple(program))
    _require_experiment(changed)
    loaded = read_experiment(changed[0], changed[1:], ranks)
    own = changed[0] not in shipped("experiments")
    return Submittal(loaded.experiment, tuple(arguments), file=loaded.file if own else None)


def _require_experiment(arguments: list[str]) -> None:
    """Raise ``UserError`` if the arguments name no experiment."""
    from saman.configs.errors import UserError
    from saman.configs.loading.files import shipped
    from saman.launcher.programs import refuse_program

    if not arguments or "=" in arguments[0]:
        raise UserError(
            "missing experiment",
            where="saman submit",
            remedy="saman submit EXPERIMENT --cluster C, or saman submit --cluster C -- PROGRAM",
        )
    if arguments[0] not in shipped("experiments"):
        refuse_program(arguments, "saman submit")
