"""What there is to show of a run elsewhere: parameters, metrics by step, tags, files; read from its folder alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.runs.events import Event, State
from saman.runs.folder import RunFolder
from saman.runs.telemetry.throughput import chief_throughput
from saman.runs.telemetry.window import read_windows

_FIGURES = (".svg", ".png", ".html")


@dataclass(frozen=True)
class MetricPoint:
    """A value of a metric at a step; ``time`` in Unix seconds."""

    name: str
    step: int
    time: float
    value: float


@dataclass(frozen=True)
class RunHistory:
    """A run as trackers show it. Times are Unix seconds; ``files`` are what is copied, by its name there."""

    run_id: str
    experiment: str
    state: State
    started: float
    ended: float | None
    parameters: Mapping[str, str]
    points: tuple[MetricPoint, ...]
    tags: Mapping[str, str]
    files: Mapping[str, Path]
    versions: tuple[tuple[str, int], ...]


def tracked(run: RunFolder) -> RunHistory:
    """Everything a finished or a running run can show now."""
    events = run.events()
    spec = run.spec()
    state = run.state
    versions = tuple(
        (str(one.facts["model"]), int(one.facts["version"]))
        for one in events
        if one.kind == "published" and "model" in one.facts and "version" in one.facts
    )
    return RunHistory(
        run_id=run.id,
        experiment=spec.name,
        state=state,
        started=events[0].time if events else 0.0,
        ended=events[-1].time if events and state.ended else None,
        parameters=dict(flattened(spec.resolved())),
        points=tuple(_points(run, events)),
        tags=_tags(run, versions),
        files=dict(_files(run)),
        versions=versions,
    )


def flattened(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """``key.path`` and text of every leaf that is set."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from flattened(item, f"{path}.{key}" if path else str(key))
    elif value is not None and value != {}:
        yield path, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _points(run: RunFolder, events: list[Event]) -> Iterator[MetricPoint]:
    """Metrics of epochs; loss, learning rate and throughput of windows; sustained throughput. Each step once."""
    newest: dict[tuple[str, int], MetricPoint] = {}
    for event in events:
        metrics = event.facts.get("metrics") if event.kind == "epoch" else None
        for name, value in (metrics or {}).items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                step = int(event.facts.get("step", 0))
                newest[name, step] = MetricPoint(
                    name, step, event.time, float(value)
                )  # of a resumed run, the last counts
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


def _tags(run: RunFolder, versions: tuple[tuple[str, int], ...]) -> dict[str, str]:
    tags = {"saman.run": run.id, "saman.folder": str(run.path), "saman.state": run.state.value}
    attempts = run.attempts()
    provenance = (
        json.loads(attempts[-1].provenance.read_text()) if attempts and attempts[-1].provenance.is_file() else {}
    )
    git = provenance.get("git") or {}
    if isinstance(git, dict) and git.get("commit"):
        tags["mlflow.source.git.commit"] = str(git["commit"])
    host = provenance.get("host") or {}
    if isinstance(host, dict) and host.get("name"):
        tags["saman.host"] = str(host["name"])
    if versions:
        tags["saman.versions"] = ", ".join(f"{name}:{number}" for name, number in versions)
    return tags


def _files(run: RunFolder) -> Iterator[tuple[str, Path]]:
    files = [run.experiment_file, run.script_file, run.summary_file, run.exported.record]
    files += [attempt.provenance for attempt in run.attempts()]
    files += [file for file in sorted(run.figures.glob("*")) if file.suffix in _FIGURES]
    for file in files:
        if file.is_file():
            yield run.relative(file), file
