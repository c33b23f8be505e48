"""Writes synthetic run folders as ``saman run`` leaves them, with known truths: for the benchmark and for tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

_HOST = {"name": "node", "node": "n0", "system": "Linux", "cpu": "Synthetic CPU", "cores": 64, "gpus": []}


@dataclass(frozen=True)
class Made:
    """A run to be written. A step takes ``compute_seconds`` and the exchange; windows vary by ``noise``.

    ``processes`` 0 writes one file per rank, 1 writes one file for all ranks, as a run with one process does.
    """

    strategy: str = "horovod"
    ranks: int = 1
    nodes: int = 1
    global_batch: int = 256
    batch_per_rank: int | None = None
    step_seconds: float = 0.1
    exchange_seconds: float | None = 0.0
    input_wait_seconds: float = 0.002
    noise: float = 0.02
    between: float = 0.02
    windows: int = 30
    window_steps: int = 10
    processes: int = 0
    slow_rank: int | None = None
    settings: tuple[tuple[str, Any], ...] = ()
    cores_per_rank: int = 4
    node_cores: int = 64
    cpu_seconds_per_sample: float | None = None
    memory_bandwidth: tuple[tuple[int, float], ...] = ()  # cores at work, bytes per second
    cpu: str = "Synthetic CPU"
    state: str = "completed"
    epochs: int = 3
    seed: int = 0
    warmup: int = 2
    name: str = "made"


def write_runs(folder: Path, runs: Sequence[Made]) -> list[Path]:
    """Every run below ``folder``, named so that they sort in the order given."""
    return [
        write_run(
            folder / f"20260101-{number // 3600 % 24:02d}{number // 60 % 60:02d}{number % 60:02d}-{number:06d}",
            run,
            number,
        )
        for number, run in enumerate(runs)
    ]


def write_run(path: Path, made: Made, number: int = 0) -> Path:
    """One run folder at ``path``."""
    attempt = path / "attempts" / "1"
    (attempt / "telemetry").mkdir(parents=True)
    (attempt / "ranks").mkdir()
    (path / "experiment.yaml").write_text(experiment(made))
    start = 1.7e9 + 1000.0 * number
    _write_lines(path / "events.jsonl", _events(made, start))
    facts = {
        "schema": 1,
        "host": {
            **_HOST,
            "cpu": made.cpu,
            "cores": made.node_cores,
            "memory_bandwidth": {
                "cores": [cores for cores, _ in made.memory_bandwidth],
                "bytes_per_second": [rate for _, rate in made.memory_bandwidth],
            },
        },
        "versions": {"python": "3.11", "saman": "0.1.0"},
        "mpi": None,
    }
    (attempt / "provenance.json").write_text(json.dumps(facts))
    per_node = made.ranks // made.nodes
    files = range(made.ranks) if made.processes == 0 else range(1)
    here = {"ranks_here": made.ranks // len(files), "cores": [], "gpus": [], "threads": made.cores_per_rank}
    placed = [
        {"index": i, "node": f"n{i // per_node}", "local_index": i % per_node, "first_rank": i, **here} for i in files
    ]
    shared = made.cores_per_rank * per_node > made.node_cores
    plan = {"schema": 1, "processes": placed, "cores_per_rank": made.cores_per_rank, "cores_shared": shared}
    plan["notes"] = []
    (attempt / "placement.json").write_text(json.dumps(plan))
    for one in placed:
        record = {"schema": 1, "process": one["index"], "first_rank": one["first_rank"], "node": one["node"]}
        (attempt / "ranks" / f"{one['index']:05d}.json").write_text(json.dumps(record))
    _write_telemetry(attempt / "telemetry", made, start, number)
    summary = {"schema": 1, "state": made.state, "message": made.state, "seconds": 100.0}
    (path / "summary.json").write_text(json.dumps(summary))
    return path


def experiment(made: Made) -> str:
    """The resolved experiment, as far as a report reads it; JSON is YAML."""
    train: dict[str, Any] = {"strategy": made.strategy, "epochs": made.epochs, "seed": 1, "precision": "float32"}
    batch = "global_batch_size" if made.batch_per_rank is None else "batch_size_per_rank"
    train |= {batch: made.global_batch if made.batch_per_rank is None else made.batch_per_rank}
    resources = {"nodes": made.nodes, "ranks_per_node": made.ranks // made.nodes}
    value = {
        "name": made.name,
        "model": {"build": "mlp"},
        "train": {**train, **dict(made.settings)},
        "resources": resources,
    }
    return json.dumps(value)


def _events(made: Made, start: float) -> list[dict[str, Any]]:
    steps = made.windows * made.window_steps
    events: list[dict[str, Any]] = [{"schema": 1, "time": start, "kind": "created", "who": "submitter"}]
    events.append({"schema": 1, "time": start, "kind": "attempt_started", "who": "supervisor", "attempt": 1})
    for epoch in range(1, made.epochs + 1):
        when = start + made.step_seconds * steps * epoch / made.epochs
        metrics = {"accuracy": 1 - 0.5 / epoch, "val_accuracy": 1 - 0.6 / epoch, "loss": 2.0 / epoch}
        fact = {"epoch": epoch, "step": steps * epoch // made.epochs, "metrics": metrics}
        events.append({"schema": 1, "time": when, "kind": "epoch", "who": "rank 0", **fact})
    if made.state != "running":
        events.append({"schema": 1, "time": start + 100, "kind": made.state, "who": "supervisor"})
    return events


def _write_telemetry(folder: Path, made: Made, start: float, number: int) -> None:
    rng = np.random.default_rng((made.seed, number))
    windows, steps = made.windows, made.window_steps
    luck = float(np.exp(rng.normal(0, made.between)))
    noise = rng.normal(0, made.noise, windows)
    for index in range(1, windows):  # windows of a run depend on each other
        noise[index] = 0.6 * noise[index - 1] + 0.8 * noise[index]
    seconds = steps * made.step_seconds * luck * np.exp(noise)
    seconds[: made.warmup] *= 1.5
    files = made.ranks if made.processes == 0 else 1
    here = made.ranks // files
    batch = made.global_batch if made.batch_per_rank is None else made.batch_per_rank * made.ranks
    clock = start + np.cumsum(seconds)
    for rank in range(files):
        exchange = None if made.exchange_seconds is None else np.full(windows, made.exchange_seconds * steps)
        if exchange is not None and made.slow_rank is not None:
            exchange = exchange * 0.1 if rank == made.slow_rank else exchange
        lines = []
        for i in range(windows):
            waits = f'"input_wait_seconds":{made.input_wait_seconds * steps:.6f}'
            if made.cpu_seconds_per_sample is not None:
                waits += f',"cpu_seconds":{made.cpu_seconds_per_sample * (batch * steps // files):.6f}'
            if exchange is not None:
                waits += f',"exchange_seconds":{exchange[i]:.6f}'
            loss = f'"loss":{0.1 + 2.2 / (1 + 0.1 * i):.5f},' if rank == 0 else ""
            lines.append(
                f'{{"schema":1,"rank":{rank * here},"ranks_here":{here},"size":{made.ranks},"step":{(i + 1) * steps},'
                f'"steps":{steps},"epoch":1,"samples":{batch * steps // files},"seconds":{seconds[i]:.6f},'
                f'{waits},{loss}"compiled":{"true" if i == 0 else "false"},"time":{clock[i]:.4f}}}\n'
            )
        (folder / f"{rank:05d}.jsonl").write_text("".join(lines))


def _write_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def curve(base: Made, counts: Sequence[int], serial_fraction: float, repeats: int, per_node: int = 4) -> list[Made]:
    """Runs of a strong-scaling curve by Amdahl's law whose loss to the ideal is exposed exchange."""
    found = []
    for ranks in counts:
        step = base.step_seconds * (1 + serial_fraction * (ranks - 1)) / ranks
        exchange = None if base.exchange_seconds is None else step - base.step_seconds / ranks
        nodes = -(-ranks // per_node)
        one = replace(base, ranks=ranks, nodes=nodes, step_seconds=step, exchange_seconds=exchange)
        found += [one] * repeats
    return found
