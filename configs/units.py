"""Durations, times and sizes as text: those that users write, and those that users read."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Annotated

from pydantic import AfterValidator

_CLOCK = re.compile(r"(?:(?P<days>\d+)-)?(?P<hours>\d{1,4}):(?P<minutes>[0-5]\d):(?P<seconds>[0-5]\d)")
_SIZE = re.compile(r"(\d+)([KMGT])")


def parse_duration(text: str) -> int:
    """Seconds in ``[D-]HH:MM:SS``; raises ``ValueError`` for any other text.

    >>> parse_duration("1-02:00:30")
    93630
    """
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration; write HH:MM:SS or D-HH:MM:SS, quoted")
    days, hours, minutes, seconds = (int(part or 0) for part in match.group("days", "hours", "minutes", "seconds"))
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


_SPAN = re.compile(r"(\d{1,6})([smhd])")
_SPAN_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_span(text: str) -> int:
    """Seconds in ``90s``, ``30m``, ``1h``, ``2d`` or ``[D-]HH:MM:SS``; raises ``ValueError`` for any other text.

    >>> [parse_span(text) for text in ("90s", "30m", "1h", "2d", "01:00:00")]
    [90, 1800, 3600, 172800, 3600]
    """
    if (match := _SPAN.fullmatch(text)) is not None:
        return int(match[1]) * _SPAN_SECONDS[match[2]]
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a duration; write a whole number and s, m, h or d, such as 30m") from None


_DAYS = re.compile(r"(?P<days>\d+)-(?P<rest>\d+(?::\d+){0,2})")
_FORMS = "minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS"


def parse_slurm_time(text: str) -> int:
    """Seconds in a time limit as sbatch reads it: minutes, ``MM:SS``, ``HH:MM:SS``, ``D-HH`` and so on.

    Raises ``ValueError`` for any other text, and for zero, which sbatch reads as "no limit".

    >>> [parse_slurm_time(text) for text in ("30", "90:00", "1:30:00", "1-2", "1-02:30")]
    [1800, 5400, 5400, 93600, 95400]
    """
    days = _DAYS.fullmatch(text)
    parts = (days["rest"] if days else text).split(":")
    if not all(part.isascii() and part.isdigit() and len(part) < 8 for part in parts) or len(parts) > 3:
        raise ValueError(f"{text!r} is not a time limit; write {_FORMS}")
    numbers = [int(part) for part in parts]
    if days:  # hours first
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) < 3:  # minutes first
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    else:
        hours, minutes, seconds = numbers
    total = ((int(days["days"]) * 24 if days else 0) + hours) * 3600 + minutes * 60 + seconds
    if total == 0:
        raise ValueError(f"{text!r} is no time limit; write {_FORMS}, above zero")
    return total


def format_clock(total_seconds: int) -> str:
    """The inverse of ``parse_duration``: ``[D-]HH:MM:SS``.

    >>> format_clock(93630)
    '1-02:00:30'
    """
    minutes, seconds = divmod(total_seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f"{hours:02d}:{minutes:02d}:{seconds:02d}"
    return f"{days}-{text}" if days else text


def format_duration(seconds: float) -> str:
    """A duration for people, in its two largest units.

    >>> format_duration(42), format_duration(200), format_duration(18600)
    ('42 s', '3 min 20 s', '5 h 10 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def format_time(unix_seconds: float) -> str:
    """A date and time for people, in UTC; ``unknown time`` for a number that no calendar holds."""
    if not 0 <= unix_seconds < 253_402_300_800:  # the year 10000
        return "unknown time"
    return datetime.fromtimestamp(unix_seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def parse_size(text: str) -> int:
    """Bytes in ``512M``, ``4G``… (powers of 1024); raises ``ValueError`` for any other text.

    >>> parse_size("4G")
    4294967296
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a size; write a whole number and K, M, G or T, such as 4G")
    return int(match[1]) << 10 * (1 + "KMGT".index(match[2]))


def format_bytes(count: float, up: bool = False) -> str:
    """A number of bytes with its unit; ``up`` rounds up instead of to the nearest tenth.

    >>> format_bytes(1.5 * 2**30)
    '1.5 GiB'
    """
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(count) >= factor:
            tenths = -(-count * 10 // factor) / 10 if up else count / factor
            return f"{tenths:.1f} {unit}"
    return f"{int(count)} bytes"


def _checked_clock(text: str) -> str:
    if parse_duration(text) == 0:
        raise ValueError(f"{text!r} is zero; write a duration above 00:00:00")
    return text


def _checked_span(text: str) -> str:
    if parse_span(text) == 0:
        raise ValueError(f"{text!r} is zero; write a duration above 0s")
    return text


def _checked_size(text: str) -> str:
    parse_size(text)
    return text


Clock = Annotated[str, AfterValidator(_checked_clock)]
Size = Annotated[str, AfterValidator(_checked_size)]
Span = Annotated[str, AfterValidator(_checked_span)]
