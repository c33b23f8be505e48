"""Files that an experiment includes: parts of an experiment, such as the settings that ``saman autotune`` found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saman.configs import yaml12
from saman.configs.errors import UserError
from saman.configs.home_folder import in_home

KEY = "include"


def read_with_included(file: Path, above: tuple[Path, ...] = ()) -> Any:
    """Read the values of a file over those of the files under its key ``include``.

    A later file of the list overrides an earlier one, and the file's own keys override both. Mappings are merged.
    Paths are relative to the file that names them.

    Args:
        file: The file.
        above: The files that include it.

    Raises:
        UserError: An included file is missing, is no mapping, or includes itself.
    """
    values = yaml12.read(file)
    if not isinstance(values, dict) or KEY not in values:
        return values
    names = values[KEY]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError("not a list of files", where=f"{file}: {KEY}", remedy="include: [settings.yaml]")
    known = (*above, file.resolve())
    merged: Any = {}
    for name in names:
        merged = _over(_included(file, name, known), merged)
    return _over({key: value for key, value in values.items() if key != KEY}, merged)


def _included(file: Path, name: str, above: tuple[Path, ...]) -> dict[str, Any]:
    path, where = file.parent / in_home(name), f"{file}: {KEY}"
    if path.resolve() in above:
        raise UserError(f"{name} includes itself", where=where, remedy=f"remove {name} from the list")
    if not path.is_file():
        raise UserError(f"no such file: {path}", where=where, remedy="a path relative to this file")
    values = read_with_included(path, above)
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a mapping", where=where, remedy="keys of an experiment")
    return values


def _over(upper: Any, lower: Any) -> Any:
    if not isinstance(upper, dict) or not isinstance(lower, dict):
        return upper
    return {**lower, **{key: _over(value, lower.get(key)) for key, value in upper.items()}}
