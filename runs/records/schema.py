"""Reads JSON records by their schema version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from saman.configs.errors import UserError
from saman.runs.files.whole import read_json


class NewerSchema(UserError):  # noqa: N818  (the name says what is wrong)
    """A file that a newer saman wrote."""


def read_record(path: Path, known: int = 1) -> dict[str, Any] | None:
    """Read the JSON object at ``path``. A file without a schema version counts as version 1.

    Args:
        path: The file.
        known: The newest schema version that the caller understands.

    Returns:
        The object, or ``None`` if the file is missing, torn, or holds no object.

    Raises:
        NewerSchema: The file has a newer schema version.
    """
    value = read_json(path)
    if not isinstance(value, dict):
        return None
    check_schema(value, known, str(path))
    return value


def check_schema(value: Mapping[str, Any], known: int, where: str) -> None:
    """Raise ``NewerSchema`` if ``value`` has a schema version above ``known``; ``where`` names the file.

    >>> check_schema({"model": "mlp"}, 1, "export.json")
    >>> check_schema({"schema": 3}, 1, "export.json")
    Traceback (most recent call last):
    ...
    saman.runs.records.schema.NewerSchema: export.json: schema 3 is newer than this saman understands (1) (...)
    """
    schema = value.get("schema", 1)
    if not isinstance(schema, int) or schema > known:
        raise NewerSchema(
            f"schema {schema} is newer than this saman understands ({known})",
            where=where,
            remedy="use the version of saman that wrote the file, or a newer version",
        )


def mapping(value: object) -> dict[str, Any]:
    """Return a field of a record if it is a dictionary, else an empty dictionary."""
    return value if isinstance(value, dict) else {}


def number(value: object) -> float | None:
    """Return a field of a record as a float if it is a number, else ``None``."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def integer(value: object) -> int | None:
    """Return a field of a record if it is an integer, else ``None``."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(value: object) -> str | None:
    """Return a field of a record as text, or ``None`` if there is none."""
    return None if value is None else str(value)


def others(value: Mapping[str, Any], known: Iterable[str]) -> dict[str, Any]:
    """Return the facts of ``value`` that are neither ``known`` nor the schema: a later saman may have added them."""
    return {key: item for key, item in value.items() if key not in {"schema", *known}}
