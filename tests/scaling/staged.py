"""Writes run folders of pipelines whose stages, exchange and steps are known truths."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from synthetic import Made, write_run

from saman.pipeline.cost import speedup
from saman.scaling.models.communication import Link, ring_seconds

MIB = 2**20


@dataclass(frozen=True)
class Split:
    """A pipeline to be written: a stage is busy per pass and per example, replicas sum ``gradient_bytes`` in a ring."""

    stages: int = 2
    replicas: int = 1
    micro_batches: int = 4
    batch: int = 256
    per_pass: tuple[float, ...] = (0.004, 0.002)
    per_example: tuple[float, ...] = (0.0010, 0.0014)
    transfer_per_pass: float = 0.0005
    gradient_bytes: float = 8e6
    noise: float = 0.01
    windows: int = 30
    window_steps: int = 4
    weak: bool = False
    filled: float = 1.0  # the share of a batch that there is on average: the last of an epoch is short
    settings: tuple[tuple[str, Any], ...] = ()

    @property
    def ranks(self) -> int:
        """All of them."""
        return self.stages * self.replicas

    @property
    def examples(self) -> float:
        """Of one replica in a step."""
        return self.filled * (self.batch if self.weak else self.batch / self.replicas)

    def busy(self, stage: int) -> float:
        """Seconds per step."""
        return self.per_pass[stage] * self.micro_batches + self.per_example[stage] * self.examples

    @property
    def transfer_seconds(self) -> float:
        """Seconds per step."""
        return self.transfer_per_pass * self.micro_batches

    @property
    def passes(self) -> float:
        """Seconds from the first pass of a step to the last."""
        each = [(self.busy(s) + self.transfer_seconds) / self.micro_batches for s in range(self.stages)]
        return self.micro_batches * sum(each) / speedup(each, self.micro_batches)

    @property
    def exchange(self) -> float:
        """Seconds per step."""
        return float(ring_seconds(self.gradient_bytes, self.replicas, Link(0.0, 1e9)))

    @property
    def step(self) -> float:
        """Seconds."""
        return self.passes + self.exchange

    @property
    def rate(self) -> float:
        """Samples per second."""
        return self.examples * self.replicas / self.step


def write_pipelines(folder: Path, runs: Sequence[Split]) -> list[Path]:
    """Every run below ``folder``."""
    return [write_pipeline(folder / f"20260102-000000-{number:06d}", run, number) for number, run in enumerate(runs)]


def write_pipeline(path: Path, made: Split, number: int = 0) -> Path:
    """One run folder."""
    pipeline = {"stages": made.stages, "cuts": "auto", "order": "1f1b", "recompute": False}
    settings = (("pipeline", pipeline), ("micro_batches", made.micro_batches), *made.settings)
    batch: dict[str, Any] = {"global_batch": made.batch}
    if made.weak:
        batch = {"batch_per_rank": made.batch // made.stages}
    write_run(path, Made(strategy="pipeline", ranks=made.ranks, settings=settings, windows=1, **batch), number)
    notice = {"text": "the model is split", "cuts": [f"layer_{stage}" for stage in range(1, made.stages)]}
    told = {"stage_seconds": [1e-3] * made.stages, "memory_bytes": [100 * MIB] * made.stages}
    event = {"schema": 1, "time": 1.7e9, "kind": "notice", "who": "rank 0", **notice, "predicted": told}
    with (path / "events.jsonl").open("a") as file:
        file.write(json.dumps(event) + "\n")
    rng = np.random.default_rng(number)
    luck = np.exp(rng.normal(0, made.noise, made.windows))
    for rank in range(made.ranks):
        lines = [_window(made, rank, index, float(luck[index])) for index in range(made.windows)]
        (path / f"attempts/1/telemetry/{rank:05d}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _window(made: Split, rank: int, index: int, luck: float) -> dict[str, Any]:
    """A stage that is done early waits for the rest in its exchange; the others wait before it."""
    stage, steps = rank % made.stages, made.window_steps
    seconds = made.step * luck
    waiting = made.passes * luck - (made.busy(stage) + made.transfer_seconds) * luck
    early = waiting / 2 if stage else 0.0
    return {
        "schema": 1, "rank": rank, "ranks_here": 1, "size": made.ranks, "step": (index + 1) * steps, "steps": steps,
        "epoch": 1, "samples": round(made.examples * steps) if stage == 0 else 0, "seconds": seconds * steps,
        "input_wait_seconds": 0.0, "compiled": index == 0, "time": 1.7e9 + (index + 1) * made.step * steps,
        "stage": stage,
        "transfer_seconds": made.transfer_seconds * luck * steps, "bubble_seconds": (waiting - early) * steps,
        "exchange_seconds": (made.exchange * luck + early) * steps,
        "memory_start_bytes": 300 * MIB, "memory_bytes": (300 + 90 + 20 * stage) * MIB,
    }  # fmt: skip
