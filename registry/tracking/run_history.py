"""The history of a run for trackers: parameters, metrics by step, tags and files, read from its folder."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.runs.events import Event, State
from saman.runs.folder import RunFolder
from saman.runs.ranks.training_events import EpochEnd
from saman.runs.records.provenance import Provenance
from saman.runs.records.run_events import VersionPublication
from saman.runs.telemetry.throughput import chief_throughput
from saman.runs.telemetry.window import read_windows

_FIGURES = (".svg", ".png", ".html")


@dataclass(frozen=True)
class MetricPoint:
    """The value of a metric at a step; ``time`` is in Unix seconds."""

    name: str
    step: int
    time: float
    value: float


@dataclass(frozen=True)
class RunHistory:
    """A run as trackers show it. Times are Unix seconds; ``files`` are copied under their names."""

    run_id: str
    experiment: str
    state: State
    started: float
    ended: float | None
    parameters: Mapping[str, str]
    points: tuple[MetricPoint, ...]
    tags: Mapping[str, str]
    files: Mapping[str, Path]
    versions: tuple[VersionPublication, ...]


def read_history(run: RunFolder) -> RunHistory:
    """Read the history of a run, also while it runs."""
    events = run.events()
    spec = run.spec()
    state = run.state
    versions = tuple(found for event in events if (found := VersionPublication.from_event(event)) is not None)
    return RunHistory(
        run_id=run.id,
        experiment=spec.name,
        state=state,
        started=events[0].time if events else 0.0,
        ended=events[-1].time if events and state.ended else None,
        parameters=dict(flatten(spec.resolved())),
        points=tuple(_points(run, events)),
        tags=_tags(run, versions),
        files=dict(_files(run)),
        versions=versions,
    )


def flatten(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield ``key.path`` and text of every value for a tracker, except missing values.

    >>> dict(flatten({"train": {"seed": 0, "steps": None}, "name": "tiny"}))
    {'train.seed': '0', 'name': 'tiny'}
    """
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flatten(item, f"{path}.{key}" if path else str(key))
    elif value is not None and value != {}:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _points(run: RunFolder, events: list[Event]) -> Iterator[MetricPoint]:
    """Metrics of epochs; loss, learning rate and throughput of windows; sustained throughput. Each step once."""
    newest: dict[tuple[str, int], MetricPoint] = {}
    for event in events:
        if (epoch := EpochEnd.from_event(event)) is not None:
            for name, metric in epoch.finite_metrics().items():
                # A resumed run may repeat a step: the last value counts.
                newest[name, epoch.step] = MetricPoint(name, epoch.step, event.time, metric)
    windows = read_windows(run, 0)[0]
    for window in windows:
        found = {"train_loss": window.loss, "learning_rate": window.learning_rate}
        rate = chief_throughput([window])
        found["samples_per_second"] = rate.sustained if rate else None
        for name, value in found.items():
            if value is not None and math.isfinite(value):
                newest[name, window.step] = MetricPoint(name, window.step, window.time, float(value))
    yield from newest.values()
    if measured := chief_throughput(windows):
        last = windows[-1]
        yield MetricPoint("sustained_samples_per_second", last.step, last.time, measured.sustained)


def _tags(run: RunFolder, versions: tuple[VersionPublication, ...]) -> dict[str, str]:
    tags = {"saman.run": run.id, "saman.folder": str(run.path), "saman.state": run.state.value}
    attempts = run.attempts()
    provenance = Provenance.read(attempts[-1].provenance) if attempts else None
    if provenance and provenance.git:
        tags["mlflow.source.git.commit"] = provenance.git.commit
    if provenance and provenance.host and provenance.host.name:
        tags["saman.host"] = provenance.host.name
    if versions:
        tags["saman.versions"] = ", ".join(map(str, versions))
    return tags


def _files(run: RunFolder) -> Iterator[tuple[str, Path]]:
    files = [run.experiment_file, run.script_file, run.summary_file, run.exported.record]
    files += [attempt.provenance for attempt in run.attempts()]
    files += [file for file in sorted(run.figures.glob("*")) if file.suffix in _FIGURES]
    for file in files:
        if file.is_file():
            yield run.relative(file), file
