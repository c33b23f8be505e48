"""Truth for pipelines: ranks as programs on cores that a scheduler shares out, one short time slice after another.

Nothing here comes from saman. A rank computes, sends, waits; a core gives each of its runnable ranks a quantum in turn.
Cores slow each other down through the memory. Steps end when the slowest rank has summed its gradients.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import Made, write_run

TICK = 1e-4
QUANTUM = 20  # ticks


@dataclass(frozen=True)
class Machine:
    """A node: its cores, how a busy neighbour slows a core, and the flight of a message."""

    cores: int = 2
    contention: float = 0.05
    flight: float = 2e-4


@dataclass(frozen=True)
class Program:
    """A pipeline to be run."""

    stages: int = 2
    replicas: int = 1
    micro_batches: int = 4
    batch: int = 64
    work: float = 1.2e-3  # CPU seconds of both passes of the whole model per example
    uneven: float = 0.0  # the first stage has (1 + uneven) times its share
    overhead: float = 4e-4  # CPU seconds of each pass
    send: float = 2e-4  # CPU seconds of a message
    gradients: float = 6e-3  # CPU seconds of copying the gradients of the whole model
    update: float = 2e-3  # of the whole model
    loading: float = 0.0  # CPU seconds of a step on every rank before its passes, however few its examples
    sums: float = 0.0  # CPU seconds of norms and counts, which a rank alone has, too
    pause: float = 0.0  # seconds by which every third step is late, on all ranks
    noise: float = 0.03
    cores_per_rank: int = 1

    @property
    def ranks(self) -> int:
        return self.stages * self.replicas


@dataclass
class _Rank:
    program: Iterator[tuple[str, Any]]
    core: int
    kind: str = ""
    need: float = 0.0
    key: Any = None
    done: bool = False
    tally: dict[str, float] | None = None


def _actions(stage: int, stages: int, count: int) -> list[tuple[str, int]]:
    """PipeDream's flushed order, written down from its paper: some forwards ahead, then one of each, then the rest."""
    forwards, backwards = list(range(count)), list(range(count))
    order: list[tuple[str, int]] = []
    for _ in range(min(stages - 1 - stage, count)):
        order.append(("f", forwards.pop(0)))
    while forwards:
        order.append(("f", forwards.pop(0)))
        order.append(("b", backwards.pop(0)))
    return order + [("b", which) for which in backwards]


def _rank(made: Program, replica: int, stage: int, luck: float, late: float) -> Iterator[tuple[str, Any]]:
    if made.loading + late:
        yield "load", made.loading + late
    share = 1 / made.stages
    if made.stages > 1 and stage == 0:
        share *= 1 + made.uneven
    elif made.stages > 1:
        share *= 1 - made.uneven / (made.stages - 1)
    examples = made.batch / made.replicas / made.micro_batches
    for kind, which in _actions(stage, made.stages, made.micro_batches):
        before = stage - 1 if kind == "f" else stage + 1
        if 0 <= before < made.stages:
            yield "wait", (replica, stage, kind, which)
        part = 1 / 3 if kind == "f" else 2 / 3
        yield "pass", (made.overhead + made.work * share * examples * part) * luck
        after = stage + 1 if kind == "f" else stage - 1
        if 0 <= after < made.stages:
            yield "send", made.send
            yield "post", (replica, after, kind, which)
    yield "exchange", (made.gradients / made.stages if made.replicas > 1 else 0.0) + made.sums + TICK
    yield "barrier", None
    yield "update", made.update / made.stages


def run_step(
    made: Program, machine: Machine, rng: np.random.Generator, number: int = 0
) -> tuple[float, list[dict[str, float]]]:
    """A step: its seconds, and for each rank wall and CPU seconds by kind of work."""
    late = made.pause if number % 3 == 2 else 0.0
    ranks = [
        _Rank(
            _rank(made, rank // made.stages, rank % made.stages, float(np.exp(rng.normal(0, made.noise))), late),
            rank % machine.cores,
            tally={},
        )
        for rank in range(made.ranks)
    ]
    mail: dict[Any, float] = {}
    turn, now, arrived = [0] * machine.cores, 0, 0
    for rank in ranks:
        _proceed(rank, mail, 0.0)
    while not all(rank.done for rank in ranks):
        arrived = sum(rank.kind == "barrier" for rank in ranks)
        if arrived == len(ranks):
            for rank in ranks:
                _proceed(rank, mail, now * TICK)
        for rank in ranks:
            if rank.kind == "wait" and mail.get(rank.key, np.inf) + machine.flight <= now * TICK + 1e-12:
                _proceed(rank, mail, now * TICK)
        chosen = []
        for core in range(machine.cores):
            ready = [rank for rank in ranks if rank.core == core and not rank.done and rank.kind in _COMPUTES]
            if ready:
                chosen.append(ready[turn[core] // QUANTUM % len(ready)])
                turn[core] += 1
        for rank in ranks:
            if not rank.done:
                _count(rank, f"wall {rank.kind}", TICK)
        for rank in chosen:
            _count(rank, f"cpu {rank.kind}", TICK)
            rank.need -= TICK / (1 + machine.contention * (len(chosen) - 1))
            if rank.need <= 0:
                _proceed(rank, mail, (now + 1) * TICK)
        now += 1
    return now * TICK, [rank.tally or {} for rank in ranks]


_COMPUTES = ("load", "pass", "send", "exchange", "update")


def _count(rank: _Rank, name: str, seconds: float) -> None:
    assert rank.tally is not None
    rank.tally[name] = rank.tally.get(name, 0.0) + seconds


def _proceed(rank: _Rank, mail: dict[Any, float], now: float) -> None:
    """Go on to the next operation that takes time; posting a message takes none."""
    for kind, value in rank.program:
        if kind == "post":
            mail[value] = now
            continue
        rank.kind = kind
        rank.need, rank.key = (value, None) if kind in _COMPUTES else (0.0, value)
        return
    rank.done = True


def true_rate(made: Program, machine: Machine, steps: int = 20, seed: int = 99) -> float:
    """Samples per second over ``steps`` steps."""
    rng = np.random.default_rng(seed)
    return made.batch * steps / sum(run_step(made, machine, rng, number)[0] for number in range(steps))


def write_cells(
    folder: Path, cells: Sequence[Program], machine: Machine, repeats: int = 1, first: int = 0
) -> list[Path]:
    """A run folder for every cell and repeat, numbered from ``first``: a larger number starts later."""
    made = [cell for _ in range(repeats) for cell in cells]
    return [_write(folder / f"20260103-000000-{n:06d}", cell, machine, n) for n, cell in enumerate(made, first)]


def _write(path: Path, made: Program, machine: Machine, number: int, windows: int = 10) -> Path:
    pipeline = {"stages": made.stages, "cuts": "auto", "order": "1f1b", "recompute": False}
    settings = (("pipeline", pipeline), ("micro_batches", made.micro_batches))
    whole = Made(strategy="pipeline", ranks=made.ranks, settings=settings, windows=1, global_batch=made.batch)
    write_run(path, replace(whole, cores_per_rank=made.cores_per_rank), number)
    file = path / "attempts/1/placement.json"
    plan = json.loads(file.read_text())
    plan["cores_shared"] = made.ranks > machine.cores
    for process in plan["processes"]:
        process["cores"] = [process["local_index"] % machine.cores]
    file.write_text(json.dumps(plan))
    facts = json.loads((path / "attempts/1/provenance.json").read_text())
    facts["host"]["cores"] = machine.cores
    (path / "attempts/1/provenance.json").write_text(json.dumps(facts))
    rng = np.random.default_rng(number)
    lines: list[list[str]] = [[] for _ in range(made.ranks)]
    clock = 0.0
    for index in range(windows):
        seconds, tallies = run_step(made, machine, rng, index)
        clock += seconds
        for rank, tally in enumerate(tallies):
            lines[rank].append(json.dumps(_line(made, rank, index, clock, seconds, tally)))
    for rank, own in enumerate(lines):
        (path / f"attempts/1/telemetry/{rank:05d}.jsonl").write_text("\n".join(own) + "\n")
    return path


def _line(
    made: Program, rank: int, index: int, clock: float, seconds: float, tally: dict[str, float]
) -> dict[str, Any]:
    stage = rank % made.stages
    return {
        "schema": 1, "rank": rank, "ranks_here": 1, "size": made.ranks, "step": index + 1, "steps": 1, "epoch": 1,
        "samples": made.batch // made.replicas if stage == 0 else 0, "seconds": seconds,
        "input_wait_seconds": tally.get("wall load", 0.0),
        "compiled": index == 0, "time": 1.7e9 + clock, "stage": stage, "stages": made.stages,
        "bubble_seconds": tally.get("wall wait", 0.0), "transfer_seconds": tally.get("wall send", 0.0),
        "exchange_seconds": tally.get("wall exchange", 0.0) + tally.get("wall barrier", 0.0),
        "pass_seconds": tally["wall pass"], "pass_cpu_seconds": tally["cpu pass"],
        "exchange_cpu_seconds": tally.get("cpu exchange", 0.0), "update_cpu_seconds": tally.get("cpu update", 0.0),
        "memory_start_bytes": 300 << 20, "memory_bytes": 400 << 20,
    }  # fmt: skip
