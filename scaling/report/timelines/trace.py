"""Reads a timeline of Horovod: Chrome's trace format, a row per tensor, nested spans of what happened to it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHUNK, _LONGEST_EVENT = 1 << 20, 1 << 16  # characters
MOST_SPANS = 20_000  # a page with more of them is slow; the file holds all


@dataclass(frozen=True)
class TraceSpan:
    """What happened to a tensor: from ``start`` for ``duration`` microseconds, ``depth`` spans around it."""

    row: int
    name: str
    start: int
    duration: int
    depth: int


@dataclass(frozen=True)
class Trace:
    """The first spans of a timeline.

    Attributes:
        rows: Names of the tensors.
        spans: The spans, by their ends.
        whole: Whether the timeline has no others.
    """

    rows: tuple[str, ...]
    spans: tuple[TraceSpan, ...]
    whole: bool


def read_trace(file: Path, most: int = MOST_SPANS) -> Trace:
    """Read the first spans of a timeline; the last line of a killed run may be torn."""
    rows: dict[int, str] = {}
    found: list[TraceSpan] = []
    for span in _spans(_events(file), rows):
        if len(found) == most:
            return Trace(_names(rows), tuple(found), whole=False)
        found.append(span)
    return Trace(_names(rows), tuple(found), whole=True)


def _names(rows: dict[int, str]) -> tuple[str, ...]:
    return tuple(rows.get(number, f"tensor {number}") for number in range(max(rows, default=-1) + 1))


def _events(file: Path) -> Iterator[dict[str, Any]]:
    """The events of a list without its end; a line holds many of them, and a damaged one is passed over."""
    decoder, text = json.JSONDecoder(), ""
    with file.open(encoding="utf-8", errors="replace") as source:
        while chunk := source.read(_CHUNK):
            text, at = text + chunk, 0
            while (start := text.find("{", at)) >= 0:
                try:
                    event, at = decoder.raw_decode(text, start)
                except json.JSONDecodeError:
                    if len(text) - start < _LONGEST_EVENT:
                        break  # it goes on in the next chunk
                    at = start + 1
                    continue
                yield event
            text = text[at:]


def _spans(events: Iterable[dict[str, Any]], rows: dict[int, str]) -> Iterator[TraceSpan]:
    open_spans: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for event in events:
        row, kind, time = event.get("pid"), event.get("ph"), event.get("ts")
        if not isinstance(row, int) or not 0 <= row < 1_000_000:
            continue
        if kind == "M" and event.get("name") == "process_name":
            named = event.get("args")
            rows[row] = str(named.get("name", "")) if isinstance(named, dict) else ""
        elif not isinstance(time, int):
            continue
        elif kind == "B":
            open_spans[row].append((str(event.get("name", "")), time))
        elif kind == "E" and open_spans[row]:
            name, start = open_spans[row].pop()
            rows.setdefault(row, f"tensor {row}")
            yield TraceSpan(row, name, start, time - start, len(open_spans[row]))
        elif kind == "X" and isinstance(duration := event.get("dur"), int) and duration > 0:
            rows.setdefault(row, f"tensor {row}")
            yield TraceSpan(row, str(event.get("name", "")), time, duration, len(open_spans[row]))
