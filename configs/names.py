"""Text formats that several schemas share: names, references to user code, durations, sizes."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Annotated

from pydantic import AfterValidator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REFERENCE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_LABEL = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d{1,4}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)")
_SIZE = re.compile(r"(\d+)([KMGT])")


def is_name(text: str) -> bool:
    """Whether ``text`` can name an experiment or a model: a path component that never needs quoting."""
    return _NAME.fullmatch(text) is not None


def is_label(text: str) -> bool:
    """Whether ``text`` can be a label of a model's version."""
    return _LABEL.fullmatch(text) is not None


def is_reference(text: str) -> bool:
    """Whether ``text`` names user code as ``package.module:function``."""
    return _REFERENCE.fullmatch(text) is not None


def seconds(clock: str) -> int:
    """Seconds in ``[D-]HH:MM:SS``; raises ``ValueError`` for any other text.

    >>> seconds("1-02:00:30")
    93630
    """
    match = _CLOCK.fullmatch(clock)
    if match is None:
        raise ValueError(f"{clock!r} is not a duration; write HH:MM:SS or D-HH:MM:SS, quoted")
    days, hours, minutes, rest = (int(part or 0) for part in match.group("days", "hours", "minutes", "seconds"))
    return ((days * 24 + hours) * 60 + minutes) * 60 + rest


def clock(total_seconds: int) -> str:
    """``[D-]HH:MM:SS`` for a number of seconds.

    >>> clock(93630)
    '1-02:00:30'
    """
    minutes, rest = divmod(total_seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f"{hours:02d}:{minutes:02d}:{rest:02d}"
    return f"{days}-{text}" if days else text


def size_bytes(text: str) -> int:
    """Bytes in ``512M``, ``4G``… (powers of 1024); raises ``ValueError`` for any other text.

    >>> size_bytes("4G")
    4294967296
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a memory size; write a whole number and K, M, G or T, such as 4G")
    return int(match[1]) << 10 * (1 + "KMGT".index(match[2]))


def _checked_name(text: str) -> str:
    if not is_name(text):
        allowed = "letters, digits, '.', '_' and '-', at most 64, the first a letter or digit"
        raise ValueError(f"{text!r} is not a name; use {allowed}")
    return text


def _checked_clock(text: str) -> str:
    if seconds(text) == 0:
        raise ValueError(f"{text!r} is zero; write a duration above 00:00:00")
    return text


def _checked_size(text: str) -> str:
    size_bytes(text)
    return text


Name = Annotated[str, AfterValidator(_checked_name)]
Clock = Annotated[str, AfterValidator(_checked_clock)]
Size = Annotated[str, AfterValidator(_checked_size)]


def when(seconds: float) -> str:
    """A time for people, in UTC; ``unknown time`` for a number that no calendar holds."""
    if not 0 <= seconds < 253_402_300_800:  # the year 10000
        return "unknown time"
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
