"""Keeps the private values of a run in a file that only its owner reads, and puts them back where they are used."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from saman.configs.errors import UserError
from saman.configs.home_folder import in_home
from saman.configs.private_values import ENVIRONMENT, MLFLOW, has_reference, references, replace_references
from saman.runs.files.whole import read_json, write_json
from saman.runs.paths.run import RunPaths

if TYPE_CHECKING:
    from saman.configs.schemas.experiment import Experiment
    from saman.configs.schemas.script import Script


def gather(
    plain: Mapping[str, Any], kept: Mapping[str, str], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The values to keep with a new run: its private values, and the variables to which it refers.

    A job, or a later ``saman resume``, may start without these variables.

    Args:
        plain: The experiment's plain values.
        kept: Its private values by key.
        environ: The variables of this process.

    Raises:
        UserError: The experiment refers to a variable that is not set.
    """
    wanted = references(plain, "env")
    for name, key in wanted.items():
        if name not in environ:
            problem = f"it refers to the environment variable {name}, which is not set"
            raise UserError(problem, where=key, remedy=f"export {name} before the start")
    return {**kept, **{_variable(name): environ[name] for name in wanted}}


def keep(run: RunPaths, values: Mapping[str, str]) -> None:
    """Add values to those of the run; no other user can read them."""
    if values:
        write_json(run.secrets_file, {"schema": 1, "values": {**kept_values(run), **values}}, private=True)


def kept_values(run: RunPaths) -> dict[str, str]:
    """The values that are kept with a run; empty without the file, or where this user may not read it."""
    record = read_json(run.secrets_file)
    values = record.get("values") if isinstance(record, dict) else None
    return {str(key): str(value) for key, value in values.items()} if isinstance(values, dict) else {}


def reveal(run: RunPaths, text: str, where: str, environ: Mapping[str, str] = os.environ) -> str:
    """Replace the references in a value by the run's private values.

    Args:
        run: The run that has the value.
        text: The value.
        where: Its key, for messages.
        environ: The variables of this process; a variable that is set here counts more than the kept value.

    Raises:
        UserError: A reference leads nowhere, or to a file that others can read.
    """

    def find(kind: str, name: str) -> str:
        if kind == "file":
            return read_private(in_home(name), where)
        key = _variable(name) if kind == "env" else name
        value = environ.get(name) if kind == "env" else None
        value = kept_values(run).get(key) if value is None else value
        if value is None:
            problem = f"its value is not in {run.secrets_file.name} of the run, or that file belongs to another user"
            raise UserError(problem, where=f"{run.path}: {where}", remedy=_remedy(kind, name, where))
        return value

    return replace_references(text, find) if has_reference(text) else text


def reveal_environment(
    run: RunPaths, spec: Experiment | Script, environ: Mapping[str, str] = os.environ
) -> Experiment | Script:
    """The experiment or script with the values of its environment; never to be written. Raises as ``reveal``."""
    values = spec.launch.environment
    shown = {name: reveal(run, text, f"{ENVIRONMENT}.{name}", environ) for name, text in values.items()}
    return (
        spec
        if shown == values
        else spec.model_copy(update={"launch": spec.launch.model_copy(update={"environment": shown})})
    )


def reveal_uri(run: RunPaths, uri: str) -> str:
    """A tracking URI with its user and password; never to be written. Raises as ``reveal``."""
    return reveal(run, uri, MLFLOW)


def _variable(name: str) -> str:
    return f"env:{name}"


def _remedy(kind: str, name: str, where: str) -> str:
    return f"export {name}" if kind == "env" else f"give it again: {where}='${{env:NAME}}'"


def read_private(path: Path, where: str) -> str:
    """Return the content of a file that only its owner may read; ``where`` is the key that names it.

    Raises:
        UserError: The file cannot be read, or other users may read it.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"it refers to {path}, which cannot be read: {reason}", where=where) from None
    if mode & (stat.S_IRGRP | stat.S_IROTH | stat.S_IWGRP | stat.S_IWOTH):
        raise UserError(f"it refers to {path}, which other users can read", where=where, remedy=f"chmod 600 {path}")
    return text.rstrip("\n")
