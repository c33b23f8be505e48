"""Names and references to user code, as several schemas check them."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def is_name(text: str) -> bool:
    """Whether ``text`` can name an experiment or a model: a path component that never needs quoting."""
    return _NAME.fullmatch(text) is not None


def is_run_name(text: str) -> bool:
    """Whether ``text`` can name a run below a folder of runs, as ``experiment/id``; it leads nowhere else.

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


def _checked_name(text: str) -> str:
    if not is_name(text):
        allowed = "letters, digits, '.', '_' and '-', at most 64, the first a letter or digit"
        raise ValueError(f"{text!r} is not a name; use {allowed}")
    return text


Name = Annotated[str, AfterValidator(_checked_name)]
