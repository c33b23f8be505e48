"""Reads run folders: facts from the files, measures from the telemetry, or the reason for an exclusion."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saman.configs.loading.defaults import with_defaults, without_defaults
from saman.launcher.plan.placement import Placement
from saman.runs.events import Event, EventKind, State, state_of
from saman.runs.folder import Attempt, RunFolder
from saman.runs.ranks.attempt_ranks import read_records
from saman.runs.ranks.training_events import DataNotice
from saman.runs.records.experiment import WrittenExperiment
from saman.runs.records.provenance import Provenance
from saman.runs.records.run_events import RunEnd, newest_event
from saman.runs.records.schema import integer
from saman.runs.telemetry.goodput import Goodput
from saman.runs.telemetry.reader import Telemetry, read_telemetry
from saman.runs.telemetry.throughput import end_to_end_rate
from saman.runs.telemetry.wall_time import WallTime, wall_time
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

_log = logging.getLogger(__name__)

Array = NDArray[np.float64]
_FIRST = 20  # runs that show how fast the file system is
_WAITING = 3.0  # elapsed time ÷ CPU time, from which on threads pay
_THREADS = 8
_STEP_TIMES = 200  # windows kept for the distribution of step times
# Sections that say where and how a run ran, not what it trained; other settings distinguish curves.
_NOT_SETTINGS = frozenset({"name", "resources", "launch", "publish", "export", "tracking", "notify"})
_NOT_SETTINGS_OF_TRAINING = ("train.global_batch_size", "train.batch_size_per_rank", "train.seed")


def read_runs(paths: Sequence[Path], warmup_windows: int = 0) -> list[Run]:
    """Read several run folders, in parallel where the file system takes longer than reading itself.

    On a local disk, threads would only take turns at Python's lock.

    Args:
        paths: Run folders.
        warmup_windows: Windows to leave out at the start of every run.

    Returns:
        The runs in the order of ``paths``.
    """
    began, used = time.perf_counter(), time.thread_time()
    first = [read_run(path, warmup_windows) for path in paths[:_FIRST]]
    elapsed, busy = time.perf_counter() - began, time.thread_time() - used
    if elapsed < _WAITING * busy:
        return [*first, *(read_run(path, warmup_windows) for path in paths[_FIRST:])]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [*first, *pool.map(lambda path: read_run(path, warmup_windows), paths[_FIRST:])]


def read_run(path: Path, warmup_windows: int = 0) -> Run:
    """Read a run folder. Files that a killed run left half-written are read as far as they go."""
    run = RunFolder(path)
    events = run.events()
    attempt = run.last_attempt() or run.attempt(1)
    placement = Placement.read(attempt.placement)
    facts = _facts(run, attempt, events, placement)
    exclusion = _unfinished(run, facts.state, events)
    if exclusion is not None:
        _log.info("%s is excluded: %s", path, exclusion.reason.value)
        return ExcludedRun(facts, exclusion)
    measured = _measure(facts, _nodes(attempt, placement), read_telemetry(path, facts.ranks), events, warmup_windows)
    if isinstance(measured, ExcludedRun) or (summary := run.summary()) is None:
        return measured
    goodput = Goodput.from_json(summary.more.get("goodput"))
    return replace(measured, measured=replace(measured.measured, goodput=goodput))


def _facts(run: RunFolder, attempt: Attempt, events: Sequence[Event], placement: Placement | None) -> RunFacts:
    experiment = run.written_experiment()
    provenance = Provenance.read(attempt.provenance) or Provenance()
    settings = _settings_of(experiment)
    return RunFacts(
        id=run.id,
        path=run.path,
        digest=experiment.digest,
        settings=settings.complete,
        identity=settings.identity,
        strategy=str(experiment.train.get("strategy")),
        ranks=experiment.ranks,
        nodes=experiment.nodes,
        global_batch=experiment.global_batch_size,
        batch_per_rank=experiment.batch_size_per_rank,
        cores_per_rank=placement.cores_per_rank if placement else None,
        state=state_of(events),
        started=_start(events),
        hardware=provenance.host.sentence() if provenance.host else "unknown",
        software=provenance.software(),
        placement=placement.sentence() if placement else "unknown",
        command=f"saman run {run.experiment_file}",
        joules=energy_of(run.path),
        node_cores=_node_cores(placement, provenance),
        cores_shared=placement.cores_shared if placement else False,
        seed=integer(experiment.train.get("seed")),
        network=_network(experiment.nodes, provenance),
        memory_bandwidth=provenance.host.memory_bandwidth if provenance.host else None,
    )


def _start(events: Sequence[Event]) -> float:
    """When the first attempt started; when the run was created if no attempt is recorded."""
    wall = wall_time(events)
    if wall is not None:
        return wall.attempts[0][0]
    return events[0].time if events else 0.0


def _network(nodes: int, provenance: Provenance) -> str:
    """The network interface between nodes, and the library that starts the ranks, as far as the run recorded them."""
    named = [provenance.environment.get(name) for name in ("NCCL_SOCKET_IFNAME", "HOROVOD_GLOO_IFACE", "GLOO_IFACE")]
    interface = next((str(name) for name in named if name), "an interface that was not recorded")
    where = "within a single node" if nodes == 1 else f"{nodes} nodes over {interface}"
    return ", ".join(text for text in (where, provenance.mpi, provenance.start_method) if text)


def _node_cores(placement: Placement | None, provenance: Provenance) -> int | None:
    """The cores of a node: those that pinned ranks use where they share them, else those of the starting machine."""
    if placement is not None and placement.cores_shared:
        used = {core for process in placement.on(placement.nodes[0]) for core in process.cores}
        if used:
            return len(used)
    return provenance.host.cores if provenance.host else None


@dataclass(frozen=True)
class _Settings:
    """What an experiment trains, by dotted key: with every default, and without any."""

    complete: Mapping[str, Any]
    identity: Mapping[str, Any]


_SETTINGS: dict[str, _Settings] = {}


def _settings_of(experiment: WrittenExperiment) -> _Settings:
    """The settings of an experiment; repeats share them."""
    if experiment.digest not in _SETTINGS:
        trained = {key: value for key, value in experiment.values.items() if key not in _NOT_SETTINGS}
        changed = _settings(without_defaults(trained))
        identity = {key: value for key, value in changed.items() if value != "{}"}
        _SETTINGS[experiment.digest] = _Settings(_settings(with_defaults(trained)), identity)
    return _SETTINGS[experiment.digest]


def _settings(trained: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _flat(trained) if key not in _NOT_SETTINGS_OF_TRAINING}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value) if isinstance(value, list | dict) else value


def _unfinished(run: RunFolder, state: State, events: Sequence[Event]) -> Exclusion | None:
    """Why a run that did not complete is excluded; None for a completed run."""
    if state is State.COMPLETED:
        return None
    if state is State.FAILED:
        summary = run.summary()
        failed = newest_event(events, EventKind.FAILED)
        texts = RunEnd.from_event(failed).texts if failed else ()
        message = (summary and summary.message) or next(iter(texts), "no message")
        return Exclusion(ExclusionReason.FAILED, message.split("\n")[0][:200])
    return Exclusion(ExclusionReason.UNFINISHED, state.value)


def _measure(
    facts: RunFacts, node_of: Mapping[int, str], telemetry: Telemetry, events: Sequence[Event], warmup_windows: int
) -> Run:
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
    wall = wall_time(events)
    measured = Measurement(
        throughput=throughput,
        step_seconds=float(np.average(step_seconds, weights=steps)),
        input_wait_seconds=float(np.average(telemetry.input_wait_per_step[kept], weights=steps)),
        exchange_seconds=None if exchange is None else float(np.average(exchange[kept], weights=steps)),
        window_step_seconds=step_seconds[:_STEP_TIMES].astype(np.float64),
        window_steps=steps[:_STEP_TIMES].astype(np.float64),
        windows=windows,
        processes=telemetry.processes,
        stages=tuple(stage.after(steady.dropped) for stage in telemetry.stages),
        planned_stages=planned_stages(events) if telemetry.stages else None,
        node_of=node_of,
        loss=loss_curve(telemetry),
        epochs=tuple(epochs_of(events, telemetry, wall or WallTime(((start, np.inf),)))),
        duration_seconds=float(np.nanmax(telemetry.time) - start) if np.isfinite(telemetry.time).any() else None,
        cpu_seconds_per_sample=_cpu_seconds_per_sample(telemetry, steady.dropped),
        seconds_in_windows=float(telemetry.seconds.sum()),
        wall_seconds=wall.seconds if wall else None,
        end_to_end_samples_per_second=end_to_end_rate(telemetry.all_samples, wall.seconds) if wall else None,
        data_notices=tuple(dict.fromkeys(notice.text for notice in map(DataNotice.from_event, events) if notice)),
    )
    return MeasuredRun(facts, measured)


def _cpu_seconds_per_sample(telemetry: Telemetry, dropped: int) -> float | None:
    """CPU seconds of all processes ÷ samples over the steady windows; None where they were not recorded."""
    samples = float(telemetry.samples[dropped:].sum())
    if telemetry.cpu_seconds is None or samples <= 0:
        return None
    return float(telemetry.cpu_seconds[dropped:].sum()) / samples


def _without_windows(windows: WindowUsage) -> Exclusion:
    """The exclusion of a run without a window that counts."""
    out = windows.excluded
    if out.foreign_schema:
        details = f"{out.foreign_schema} records of another version"
        return Exclusion(ExclusionReason.NO_TELEMETRY_OF_THIS_SCHEMA, details, windows)
    details = f"{out.torn} torn lines, {out.not_finite} not finite, {out.incomplete} incomplete"
    return Exclusion(ExclusionReason.NO_COUNTED_WINDOW, details, windows)


def _nodes(attempt: Attempt, placement: Placement | None) -> dict[int, str]:
    """The node of each process, by its first rank: where it ran, else where it was planned."""
    planned = {process.first_rank: process.node for process in placement.processes} if placement else {}
    return planned | {rank: record.node for rank, record in read_records(attempt).items()}
