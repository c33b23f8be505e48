"""Writes metrics in Prometheus's text format (version 0.0.4). Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class SampleValue:
    """A value with its labels."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Series:
    """A metric: its name, meaning, type and values. Without values nothing is written."""

    name: str
    help: str
    samples: tuple[SampleValue, ...]
    kind: Literal["gauge", "counter"] = "gauge"


def exposition(series: Iterable[Series], labels: Mapping[str, str]) -> str:
    """Return the text of metrics; every value has ``labels`` too.

    >>> print(exposition([Series("steps_total", "Steps.", (SampleValue(3.0),), "counter")], {"run": "a"}), end="")
    # HELP steps_total Steps.
    # TYPE steps_total counter
    steps_total{run="a"} 3
    """
    lines: list[str] = []
    for each in series:
        if each.samples:
            lines += [f"# HELP {each.name} {_escaped(each.help, quotes=False)}", f"# TYPE {each.name} {each.kind}"]
            lines += [
                f"{each.name}{_labels({**labels, **sample.labels})} {_number(sample.value)}" for sample in each.samples
            ]
    return "\n".join([*lines, ""]) if lines else ""


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def _escaped(text: str, quotes: bool = True) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
