"""Makes a new project from the shipped templates."""

from __future__ import annotations

from pathlib import Path

from saman.configs.errors import EnvironmentLack, UserError
from saman.configs.names import is_name

TEMPLATES = Path(__file__).resolve().parents[1] / "project"
_SUFFIX = ".j2"


def make_project(folder: Path) -> Path:
    """Write the files of a new project; its name is that of the folder.

    Args:
        folder: A folder that does not exist.

    Returns:
        The folder.

    Raises:
        UserError: The name cannot name an experiment and a model, or something stands there already.
        EnvironmentLack: The files cannot be written.
    """
    name = folder.name
    if not is_name(name):
        remedy = "letters, digits, '.', '_' and '-', at most 64, the first a letter or digit"
        raise UserError(f"{name!r} cannot name an experiment", remedy=remedy)
    try:
        folder.mkdir(parents=True)
        for template in sorted(TEMPLATES.glob(f"*{_SUFFIX}")):
            text = template.read_text("utf-8").replace("@NAME@", name)
            (folder / template.name.removesuffix(_SUFFIX)).write_text(text, "utf-8")
    except FileExistsError:
        raise UserError("this exists already", where=str(folder), remedy="another name") from None
    except OSError as error:
        raise EnvironmentLack(f"cannot be written: {error.strerror or error}", where=str(folder)) from error
    return folder
