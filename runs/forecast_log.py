"""``.forecasts/forecasts.jsonl`` in the folder of runs: forecasts made before the runs, and their outcomes.

Lines are only ever appended, and each carries the hash of the line before: what was forecast cannot be changed later
without a trace.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from saman.runs import locks
from saman.runs.files.whole import append_line, read_lines
from saman.runs.records.schema import check_schema, mapping

SCHEMA = 2  # 2: predictor, rule, stages and micro-batches
_WAIT_SECONDS = 10.0
_FIRST = "0" * 64


class Predictor(str, Enum):
    """What made a forecast. The values are stable: they are written to records."""

    LAWS = "laws"
    PIPELINES = "pipelines"


@dataclass(frozen=True)
class UsedRun:
    """A run that a forecast was made from. ``content`` is the SHA-256 of its id, experiment and throughput."""

    id: str
    digest: str
    content: str


@dataclass(frozen=True)
class ForecastRecord:
    """A forecast as it was made.

    Attributes:
        id: Hash of the cell, the runs and the weights: the same forecast made twice has one id.
        made: Unix seconds.
        saman: Version of saman.
        weights: SHA-256 of the table that taught the stack.
        machine: Hardware of the runs.
        cell: Hash of the settings, the batch, the kind of scaling and the machine.
        series: Label of the curve, for people.
        level: Coverage of the interval.
        distribution: The whole distribution (``scaling.stack.distribution``).
        power_law: That of the simple rule, which every forecast is compared with.
        shortfall_probability: Of more than 15 % below the median of the power law.
        alarm: Whether that probability raised an alarm.
        cliff_probability: Of a loss at a boundary on the way.
        boundaries: Boundaries that were not measured.
        rule: The simple rule in words.
        stages, micro_batches: Of a pipeline.
    """

    id: str
    made: float
    saman: str
    weights: str
    machine: str
    cell: str
    series: str
    ranks: int
    nodes: int
    level: float
    median: float
    low: float
    high: float
    distribution: Mapping[str, Any]
    power_law: Mapping[str, Any]
    shortfall_probability: float
    alarm: bool
    cliff_probability: float
    boundaries: tuple[str, ...]
    runs: tuple[UsedRun, ...]
    predictor: Predictor = Predictor.LAWS
    rule: str = "power law"
    stages: int | None = None
    micro_batches: int | None = None


@dataclass(frozen=True)
class OutcomeRecord:
    """What a forecast cell measured later.

    Attributes:
        forecast: Id of the forecast.
        scored: Unix seconds.
        machine: Hardware of the runs.
        measured: Median throughput of the runs that started after the forecast.
        runs: Their ids.
        inside: Whether the interval holds it.
        miss: Distance from the median ÷ half of the interval without widening, in logarithms.
        log_score, interval_score: Of the forecast; ``rule_`` of the simple rule.
        short: Whether it fell more than 15 % below the simple rule.
        alarm: Whether an alarm had been raised.
    """

    forecast: str
    scored: float
    machine: str
    measured: float
    runs: tuple[str, ...]
    inside: bool
    miss: float
    log_score: float
    interval_score: float
    rule_log_score: float
    rule_interval_score: float
    short: bool
    alarm: bool
    predictor: Predictor = Predictor.LAWS


@dataclass(frozen=True)
class ForecastLog:
    """All forecasts and outcomes of a folder of runs.

    Attributes:
        torn: Lines that were dropped.
        broken: Lines whose hash does not match the line before: something was changed or removed there.
    """

    forecasts: tuple[ForecastRecord, ...] = ()
    outcomes: tuple[OutcomeRecord, ...] = ()
    torn: int = 0
    broken: int = 0
    last: str = field(default=_FIRST, repr=False)


def read_forecasts(path: Path) -> ForecastLog:
    """Read the log at ``path``; empty without a file. Raises ``NewerSchema``."""
    lines, torn = read_lines(path)
    forecasts, outcomes, broken, last = [], [], 0, _FIRST
    for line in lines:
        check_schema(line, SCHEMA, str(path))
        broken += line.get("previous") != last
        last = _hash(line)
        values = {name: value for name, value in line.items() if name not in ("schema", "kind", "previous")}
        values["predictor"] = Predictor(values.get("predictor", Predictor.LAWS.value))
        if line.get("kind") == "forecast":
            runs = tuple(UsedRun(**{k: str(v) for k, v in mapping(run).items()}) for run in values.pop("runs"))
            forecasts.append(ForecastRecord(**{**values, "boundaries": tuple(values["boundaries"])}, runs=runs))
        elif line.get("kind") == "outcome":
            outcomes.append(OutcomeRecord(**{**values, "runs": tuple(values["runs"])}))
    return ForecastLog(tuple(forecasts), tuple(outcomes), torn, broken, last)


def append_forecasts(path: Path, records: tuple[ForecastRecord | OutcomeRecord, ...]) -> None:
    """Append records, under a lock.

    Raises:
        OSError: The folder of runs cannot be written.
        LockHeldError: Another process has been writing for ten seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with locks.hold(path.with_suffix(".lock"), wait_seconds=_WAIT_SECONDS):
        last = read_forecasts(path).last
        for record in records:
            kind = "forecast" if isinstance(record, ForecastRecord) else "outcome"
            # through JSON once, so that the hash is that of what a reader sees
            line = json.loads(json.dumps({"schema": SCHEMA, "kind": kind, "previous": last, **asdict(record)}))
            append_line(path, line)
            last = _hash(line)


def _hash(line: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(line, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
