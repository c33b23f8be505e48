"""What ``saman autotune`` finds in ten runs beside the full grid of the same settings, on the same machine.

    python benchmarks/launcher/autotune.py [--models mlp,cnn] [--ranks 2] [--seconds 2] [--blocks 3] [--short]

For each model: the search; every other point of the grid once, in random order; then blocks of runs of the experiment
as it is, the best point of the grid and the point that the search chose, in turn; a point that is both runs once. The
single runs of a grid flatter its best point, so only these blocks give the figures: medians of ratios to the run as it
is of the same block. The last column is the part of the grid's gain that the search reaches. A run takes about 14 s on
two cores.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from saman.tuning.machine.design import Point, full_grid
from saman.tuning.machine.search import MachineSearch, measure_run, prepare_search, search, settings_text

MODELS = Path(__file__).resolve().parents[1] / "training"
EXPERIMENT = """
name: {model}
model: {{build: "models:model", args: {{name: {model}}}}}
data: {{source: "models:data", args: {{name: {model}}}, validation_fraction: 0}}
train:
  strategy: horovod
  batch_size_per_rank: {batch}
  optimizer: {{name: sgd, momentum: 0.9}}
  learning_rate: {{base: 0.01}}
resources: {{ranks_per_node: {ranks}}}
"""
COLUMNS = ("model", "point", "runs", "samples/s", "gain of each block", "median", "of the grid's gain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="mlp,cnn")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=2.0, help="of training in each run")
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--without", default="", help="settings to leave alone, such as fusion")
    parser.add_argument("--points", type=int, help="of the grid beside those of the search, at random; default: all")
    parser.add_argument("--short", action="store_true", help="one model, two points of the grid, one block")
    if "--short" in sys.argv:
        parser.set_defaults(models="mlp", blocks=1, seconds=1.0, points=2)
    asked = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before the first run", flush=True)
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for model in asked.models.split(","):
            rows += rows_of(model, asked, Path(scratch))
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")


def rows_of(model: str, asked: argparse.Namespace, scratch: Path) -> list[tuple[str, ...]]:
    """Search, measure the grid, and compare; returns the lines of the table."""
    sys.path.insert(0, str(MODELS))
    from models import BATCH

    file = MODELS / f"autotune-{model}-{os.getpid()}.yaml"  # beside the code that it names
    file.write_text(EXPERIMENT.format(model=model, batch=BATCH[model], ranks=asked.ranks))
    try:
        wanted = prepare_search(str(file))
        left_alone = asked.without.split(",")
        wanted = replace(wanted, factors=tuple(each for each in wanted.factors if each.name not in left_alone))
        measure = partial(measure_run, wanted, scratch, asked.seconds)
        began = time.monotonic()
        found = search(wanted, measure, lambda text: print(text, flush=True))
        seconds = time.monotonic() - began
        print(f"{model}: chosen {settings_text(wanted.factors, found.chosen)}: {found.gain}", flush=True)
        print(f"{model}: the search took {seconds:.0f} s", flush=True)
        grid = {run.point: run.samples_per_second for run in found.runs[:-2]}
        others = [point for point in full_grid(wanted.factors) if point not in grid]
        random.Random(1).shuffle(others)
        for point in others[: asked.points]:
            grid[point] = measure(point)
            print(f"grid: {grid[point]:,.4g} samples/s with {settings_text(wanted.factors, point)}", flush=True)
        best = max(grid, key=grid.__getitem__)
        points = {"grid and search": best} if found.chosen == best else {"grid": best, "search": found.chosen}
        return compared(wanted, measure, points, len(grid), asked.blocks)
    finally:
        file.unlink()


def compared(
    wanted: MachineSearch, measure: partial[float], points: dict[str, Point], cells: int, blocks: int
) -> list[tuple[str, ...]]:
    """Run the points and the experiment as it is in turn."""
    model = wanted.loaded.experiment.name
    asis = tuple(0 for _ in wanted.factors)
    gains: dict[str, list[float]] = {name: [] for name in points}
    rates: dict[str, list[float]] = {name: [] for name in ("as it is", *points)}
    for block in range(blocks):
        order = ["as it is", *points]
        random.Random(block).shuffle(order)
        rate = {name: measure(points.get(name, asis)) for name in order}
        for name, value in rate.items():
            rates[name].append(value)
        for name in points:
            gains[name].append(rate[name] / rate["as it is"] - 1)
    medians = {name: statistics.median(found) for name, found in gains.items()}
    rows = [(model, "as it is", "", f"{statistics.median(rates['as it is']):,.0f}", "", "", "")]
    for name, point in points.items():
        each = ", ".join(f"{gain:+.1%}" for gain in gains[name])
        best = medians.get("grid", medians[name])
        share = f"{medians[name] / best:.0%}" if "search" in name and best > 0 else ""
        where = f"{name}: {settings_text(wanted.factors, point)}"
        count = str(10 if name == "search" else cells)
        rows.append(
            (model, where, count, f"{statistics.median(rates[name]):,.0f}", each, f"{medians[name]:+.1%}", share)
        )
    return rows


if __name__ == "__main__":
    main()
