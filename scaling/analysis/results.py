"""Reads runs into results: one value per run, what was left out, and why a run does not count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saman.configs import yaml12
from saman.configs.files import read_json, read_lines
from saman.runs.events import Event, State, state_of
from saman.runs.paths import names_in
from saman.runs.telemetry.reader import ExcludedWindows, ProcessTimes, StageWindows, Telemetry, read_telemetry
from saman.runs.telemetry.throughput import Throughput
from saman.scaling.analysis.learning import Epoch, LossCurve, epochs_of, loss_curve
from saman.scaling.analysis.stages import PlannedStages, promised
from saman.scaling.statistics.steady_state import SteadyState, steady_state
from saman.scaling.study.energy import energy_of

Array = NDArray[np.float64]
_STEP_TIMES = 200  # windows kept for the distribution of step times
# Keys that say where and how a run ran rather than what it trained; the rest tells curves apart.
_NOT_SETTINGS = frozenset({"name", "resources", "launch", "publish"})
_TOLD_APART_ELSEWHERE = ("train.global_batch_size", "train.batch_size_per_rank", "train.seed")


@dataclass(frozen=True)
class Run:
    """One run as a report sees it; times in seconds per step, means over the steps of the windows that count.

    ``throughput`` is sustained (``runs.telemetry.throughput``), ``distribution`` that of the windows.

    ``problem`` says why the run does not count; then its measures are not to be used.
    """

    id: str
    path: Path
    digest: str
    settings: Mapping[str, Any]
    strategy: str
    ranks: int
    nodes: int
    global_batch: int
    batch_per_rank: int | None
    cores_per_rank: int | None
    state: State
    started: float
    hardware: str
    software: str
    placement: str
    command: str
    throughput: float = float("nan")
    distribution: Throughput | None = None
    step_seconds: float = float("nan")
    input_wait_seconds: float = float("nan")
    exchange_seconds: float | None = None
    windows: int = 0
    steady: SteadyState = SteadyState(0, True, "")
    left_out: ExcludedWindows = ExcludedWindows()
    step_times: Array = field(default_factory=lambda: np.zeros(0))
    processes: tuple[ProcessTimes, ...] = ()
    stages: tuple[StageWindows, ...] = ()
    split: PlannedStages | None = None
    node_of: Mapping[int, str] = field(default_factory=dict)
    loss: LossCurve | None = None
    epochs: tuple[Epoch, ...] = ()
    joules: float | None = None
    seconds: float | None = None
    problem: str | None = None

    @property
    def usable(self) -> bool:
        """Whether the run's measures count."""
        return self.problem is None

    @property
    def stage_count(self) -> int:
        """Stages of a pipeline; 1 for every other strategy."""
        return int(self.settings.get("train.pipeline.stages") or 1) if self.strategy == "pipeline" else 1

    @property
    def micro_batches(self) -> int:
        """Micro-batches in a step of one replica."""
        return int(self.settings.get("train.micro_batches") or 1)

    @property
    def samples_per_epoch(self) -> float | None:
        """Samples in an epoch, where one was finished."""
        return self.epochs[0].samples / self.epochs[0].epoch if self.epochs else None


def read_runs(paths: Sequence[Path], warmup_windows: int = 0, workers: int = 2) -> list[Run]:
    """The runs at ``paths``, in that order."""
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(lambda path: read_run(path, warmup_windows), paths))


def read_run(path: Path, warmup_windows: int = 0) -> Run:
    """One run folder; whatever a killed run left half-written is read as far as it goes."""
    spec, digest, settings = _spec((path / "experiment.yaml").read_bytes())
    events = [event for line in read_lines(path / "events.jsonl")[0] if (event := Event.from_json(line))]
    run = _described(path, spec, digest, settings, events)
    if run.problem:
        return run
    telemetry = read_telemetry(path, run.ranks)
    return _measured(run, telemetry, events, warmup_windows)


_SPECS: dict[bytes, tuple[dict[str, Any], str, dict[str, Any]]] = {}


def _spec(data: bytes) -> tuple[dict[str, Any], str, dict[str, Any]]:
    """The resolved experiment of a file, its digest and settings. Repeats have equal files; YAML is slow."""
    if data not in _SPECS:
        value = yaml12.parse(data.decode(errors="replace"), "experiment.yaml")
        spec = value if isinstance(value, dict) else {}
        text = json.dumps(spec, sort_keys=True, separators=(",", ":"))
        _SPECS[data] = (spec, hashlib.sha256(text.encode()).hexdigest(), _settings(spec))
    return _SPECS[data]


def _described(
    path: Path, spec: Mapping[str, Any], digest: str, settings: Mapping[str, Any], events: Sequence[Event]
) -> Run:
    """The run without its measures."""
    train, resources = spec.get("train") or {}, spec.get("resources") or {}
    nodes = int(resources.get("nodes") or 1)
    ranks = nodes * int(resources.get("ranks_per_node") or 1)
    attempt = _last_attempt(path)
    facts = read_json(attempt / "provenance.json") or {}
    placement = read_json(attempt / "placement.json") or {}
    state = state_of(events)
    return Run(
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
        state=state,
        started=events[0].time if events else 0.0,
        hardware=_hardware(facts),
        software=_software(facts),
        placement=_placement(placement),
        command=(f"saman run {path / 'experiment.yaml'}"),
        problem=_why_not(state, events, path),
    )


def _settings(spec: Mapping[str, Any]) -> dict[str, Any]:
    flat = dict(_flat({key: value for key, value in spec.items() if key not in _NOT_SETTINGS}))
    return {key: value for key, value in flat.items() if key not in _TOLD_APART_ELSEWHERE}


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


def _why_not(state: State, events: Sequence[Event], path: Path) -> str | None:
    if state is State.COMPLETED:
        return None
    if state is State.FAILED:
        summary = read_json(path / "summary.json") or {}
        failed = [event for event in events if event.kind == "failed"]
        message = str(summary.get("message") or (failed[-1].facts.get("message") if failed else "") or "no message")
        return "failed: " + message.split("\n")[0][:200]
    return f"not finished: {state.value}"


def _measured(run: Run, telemetry: Telemetry, events: Sequence[Event], warmup_windows: int) -> Run:
    steady = steady_state(telemetry.seconds_per_step, warmup_windows)
    kept = slice(steady.dropped, None)
    measured, steps = telemetry.throughput(steady.dropped), telemetry.steps[kept]
    step, exchange = telemetry.seconds_per_step[kept], telemetry.exchange_per_step
    start = float(telemetry.time[0] - telemetry.seconds[0]) if len(telemetry.time) else 0.0
    problem = _unmeasured(telemetry, measured)
    values = dict(vars(run))
    values |= {"left_out": telemetry.left_out, "steady": steady, "windows": len(step), "problem": problem}
    values |= {"node_of": _nodes(run.path), "processes": telemetry.processes, "joules": energy_of(run.path)}
    if telemetry.stages:
        values |= {"stages": tuple(one.after(steady.dropped) for one in telemetry.stages), "split": promised(events)}
    values |= {"epochs": tuple(epochs_of(events, telemetry, start)), "loss": loss_curve(telemetry)}
    if measured is not None and problem is None:
        values |= {
            "throughput": measured.sustained,
            "distribution": measured,
            "step_seconds": float(np.average(step, weights=steps)),
            "step_times": step[:_STEP_TIMES].astype(np.float64),
            "input_wait_seconds": float(np.average(telemetry.input_wait_per_step[kept], weights=steps)),
            "exchange_seconds": None if exchange is None else float(np.average(exchange[kept], weights=steps)),
            "seconds": float(np.nanmax(telemetry.time) - start) if np.isfinite(telemetry.time).any() else None,
        }
    return Run(**values)


def _unmeasured(telemetry: Telemetry, measured: Throughput | None) -> str | None:
    out = telemetry.left_out
    if measured is None:
        if out.foreign_schema:
            return f"no telemetry of this schema version: {out.foreign_schema} records of another one"
        return f"no window counts: {out.torn} torn lines, {out.not_finite} not finite, {out.incomplete} incomplete"
    if not np.isfinite(measured.sustained) or measured.sustained <= 0:
        return "its throughput is zero or not a number"
    return None


def _nodes(path: Path) -> dict[int, str]:
    """Which node each process (by its first rank) was found on."""
    found = {}
    ranks = _last_attempt(path) / "ranks"
    for name in names_in(ranks):
        stem = name.removesuffix(".json")
        if stem.isdigit() and stem != name:
            record = read_json(ranks / name)
            if isinstance(record, dict) and "node" in record:
                found[int(stem)] = str(record["node"])
    return found
