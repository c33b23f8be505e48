"""Names and references to user code, as several schemas check them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def is_name(text: str) -> bool:
    """Whether ``text`` can name an experiment or a model: a path component that never needs quoting."""
    return _NAME.fullmatch(text) is not None


def is_run_name(text: str) -> bool:
    """Whether ``text`` is a name for a run, as ``experiment/id``; it leads nowhere else.

    >>> is_run_name("demo/20261122-031500-000-abcdef"), is_run_name("../home/ada")
    (True, False)
    """
    return text.count("/") == 1 and all(map(is_name, text.split("/")))


def is_label(text: str) -> bool:
    """Whether ``text`` is the name of a label, as policies and commands check it."""
    return _LABEL.fullmatch(text) is not None


def is_reference(text: str) -> bool:
    """Whether ``text`` has the form of a name of user code, ``package.module:function``."""
    return _REFERENCE.fullmatch(text) is not None


def code_references(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the key and the name of every user's function that a configuration refers to.

    >>> list(code_references({"model": {"build": "mine:net"}, "train": {"metrics": [{"name": "mine:f"}]}}))
    [('model.build', 'mine:net'), ('train.metrics[0].name', 'mine:f')]
    """
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from code_references(value, f"{path}.{key}" if path else str(key))
    elif isinstance(values, list):
        for number, value in enumerate(values):
            yield from code_references(value, f"{path}[{number}]")
    elif isinstance(values, str) and is_reference(values):
        yield path, values


def _checked_name(text: str) -> str:
    if not is_name(text):
        allowed = "letters, digits, '.', '_' and '-', at most 64, the first a letter or digit"
        raise ValueError(f"{text!r} is not a name; use {allowed}")
    return text


Name = Annotated[str, AfterValidator(_checked_name)]
