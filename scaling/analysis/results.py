"""Reads run folders: facts from the files, measures from the telemetry, or the reason for an exclusion."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saman.configs import yaml12
from saman.configs.files import read_json, read_lines
from saman.runs.events import Event, State, state_of
from saman.runs.paths import names_in
from saman.runs.telemetry.reader import Telemetry, read_telemetry
from saman.scaling.analysis.learning import epochs_of, loss_curve
from saman.scaling.analysis.run_values import (
    ExcludedRun,
    Exclusion,
    ExclusionReason,
    MeasuredRun,
    Measurement,
    Run,
    RunFacts,
    WindowUsage,
)
from saman.scaling.analysis.stages import planned_stages
from saman.scaling.statistics.steady_state import steady_state
from saman.scaling.study.energy import energy_of

Array = NDArray[np.float64]
_STEP_TIMES = 200  # windows kept for the distribution of step times
# Sections that say where and how a run ran, not what it trained; other settings distinguish curves.
_NOT_SETTINGS = frozenset({"name", "resources", "launch", "publish"})
_NOT_SETTINGS_OF_TRAINING = ("train.global_batch_size", "train.batch_size_per_rank", "train.seed")


def read_runs(paths: Sequence[Path], warmup_windows: int = 0, workers: int = 2) -> list[Run]:
    """Read several run folders in parallel.

    Args:
        paths: Run folders.
        warmup_windows: Windows to leave out at the start of every run.
        workers: Threads.

    Returns:
        The runs in the order of ``paths``.
    """
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda path: read_run(path, warmup_windows), paths))


def read_run(path: Path, warmup_windows: int = 0) -> Run:
    """Read a run folder. Files that a killed run left half-written are read as far as they go."""
    spec, digest, settings = _spec((path / "experiment.yaml").read_bytes())
    events = [event for line in read_lines(path / "events.jsonl")[0] if (event := Event.from_json(line))]
    facts = _facts(path, spec, digest, settings, events)
    exclusion = _unfinished(facts.state, events, path)
    if exclusion is not None:
        return ExcludedRun(facts, exclusion)
    return _measure(facts, read_telemetry(path, facts.ranks), events, warmup_windows)


_SPECS: dict[bytes, tuple[dict[str, Any], str, dict[str, Any]]] = {}


def _spec(data: bytes) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """The resolved experiment of a file, its digest and settings. Repeats have equal files; YAML is slow."""
    if data not in _SPECS:
        value = yaml12.parse(data.decode(errors="replace"), "experiment.yaml")
        spec = value if isinstance(value, dict) else {}
        text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
        _SPECS[data] = (spec, hashlib.sha256(text.encode()).hexdigest(), _settings(spec))
    return _SPECS[data]


def _facts(
    path: Path, spec: Mapping[str, Any], digest: str, settings: Mapping[str, Any], events: Sequence[Event]
) -> RunFacts:
    train, resources = spec.get("train") or {}, spec.get("resources") or {}
    nodes = int(resources.get("nodes") or 1)
    ranks = nodes * int(resources.get("ranks_per_node") or 1)
    attempt = _last_attempt(path)
    provenance = read_json(attempt / "provenance.json") or {}
    placement = read_json(attempt / "placement.json") or {}
    return RunFacts(
        id=path.name,
        path=path,
        digest=digest,
        settings=settings,
        strategy=str(train.get("strategy")),
        ranks=ranks,
        nodes=nodes,
        global_batch=int(train.get("global_batch_size") or (train.get("batch_size_per_rank") or 0) * ranks),
        batch_per_rank=train.get("batch_size_per_rank"),
        cores_per_rank=placement.get("cores_per_rank"),
        state=state_of(events),
        started=events[0].time if events else 0.0,
        hardware=_hardware(provenance),
        software=_software(provenance),
        placement=_placement(placement),
        command=f"saman run {path / 'experiment.yaml'}",
        joules=energy_of(path),
    )


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(_flat({key: value for key, value in spec.items() if key not in _NOT_SETTINGS}))
    return {key: value for key, value in flat.items() if key not in _NOT_SETTINGS_OF_TRAINING}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list | dict) else value


def _last_attempt(path: Path) -> Path:
    numbers = [int(name) for name in names_in(path / "attempts") if name.isdigit()]
    return path / "attempts" / str(max(numbers, default=1))


def _hardware(facts: Mapping[str, Any]) -> str:
    host = facts.get("host") or {}
    if not host:
        return "unknown"
    gpus = ", ".join(map(str, host.get("gpus") or []))
    return f"{host.get('cpu')}, {host.get('cores')} cores" + (f", {gpus}" if gpus else "")


def _software(facts: Mapping[str, Any]) -> str:
    versions = {k: v for k, v in (facts.get("versions") or {}).items() if k != "executable" and v}
    parts = [f"{name} {version}" for name, version in versions.items()]
    return ", ".join([*parts, *([str(facts["mpi"])] if facts.get("mpi") else [])]) or "unknown"


def _placement(placement: Mapping[str, Any]) -> str:
    processes = placement.get("processes") or []
    nodes = {process.get("node") for process in processes}
    cores = placement.get("cores_per_rank")
    return f"{len(processes)} processes on {len(nodes)} nodes, {cores} cores per rank" if processes else "unknown"


def _unfinished(state: State, events: Sequence[Event], path: Path) -> Exclusion | None:
    """Why a run that did not complete is excluded; None for a completed run."""
    if state is State.COMPLETED:
        return None
    if state is State.FAILED:
        summary = read_json(path / "summary.json") or {}
        failed = [event for event in events if event.kind == "failed"]
        message = str(summary.get("message") or (failed[-1].facts.get("message") if failed else "") or "no message")
        return Exclusion(ExclusionReason.FAILED, message.split("\n")[0][:200])
    return Exclusion(ExclusionReason.UNFINISHED, state.value)


def _measure(facts: RunFacts, telemetry: Telemetry, events: Sequence[Event], warmup_windows: int) -> Run:
    """The run with its measures over steady windows, or excluded where these give none."""
    steady = steady_state(telemetry.seconds_per_step, warmup_windows)
    kept = slice(steady.dropped, None)
    steps, step_seconds = telemetry.steps[kept], telemetry.seconds_per_step[kept]
    throughput = telemetry.throughput(steady.dropped)
    windows = WindowUsage(len(steps), steady, telemetry.left_out)
    if throughput is None:
        return ExcludedRun(facts, _without_windows(windows))
    if not np.isfinite(throughput.sustained) or throughput.sustained <= 0:
        return ExcludedRun(facts, Exclusion(ExclusionReason.INVALID_THROUGHPUT, windows=windows))
    exchange = telemetry.exchange_per_step
    start = float(telemetry.time[0] - telemetry.seconds[0])
    measured = Measurement(
        throughput=throughput,
        step_seconds=float(np.average(step_seconds, weights=steps)),
        input_wait_seconds=float(np.average(telemetry.input_wait_per_step[kept], weights=steps)),
        exchange_seconds=None if exchange is None else float(np.average(exchange[kept], weights=steps)),
        window_step_seconds=step_seconds[:_STEP_TIMES].astype(np.float64),
        windows=windows,
        processes=telemetry.processes,
        stages=tuple(stage.after(steady.dropped) for stage in telemetry.stages),
        planned_stages=planned_stages(events) if telemetry.stages else None,
        node_of=_nodes(facts.path),
        loss=loss_curve(telemetry),
        epochs=tuple(epochs_of(events, telemetry, start)),
        duration_seconds=float(np.nanmax(telemetry.time) - start) if np.isfinite(telemetry.time).any() else None,
    )
    return MeasuredRun(facts, measured)


def _without_windows(windows: WindowUsage) -> Exclusion:
    """The exclusion of a run without a window that counts."""
    out = windows.excluded
    if out.foreign_schema:
        details = f"{out.foreign_schema} records of another version"
        return Exclusion(ExclusionReason.NO_TELEMETRY_OF_THIS_SCHEMA, details, windows)
    details = f"{out.torn} torn lines, {out.not_finite} not finite, {out.incomplete} incomplete"
    return Exclusion(ExclusionReason.NO_COUNTED_WINDOW, details, windows)


def _nodes(path: Path) -> dict[int, str]:
    """The node of each process, by its first rank."""
    found = {}
    ranks = _last_attempt(path) / "ranks"
    for name in names_in(ranks):
        stem = name.removesuffix(".json")
        if stem.isdigit() and stem != name:
            record = read_json(ranks / name)
            if isinstance(record, dict) and "node" in record:
                found[int(stem)] = str(record["node"])
    return found
