"""Two stages on two cores against one process on one core, the bubble bound, data parallelism, and the prediction.

    python benchmarks/pipeline/speed.py [--out DIR] [--steps 12] [--micro-batches 1,2,4,8,16,32]

For each number M of micro-batches, with the same global batch:

- *one*: a process pinned to one core, while an equal process keeps the other core busy; the mean of the two;
- *pipeline*: 2 stages, each pinned to one core, 1F1B, cuts found by the partitioner;
- *data*: 2 Horovod ranks, each pinned to one core, with the same micro-batches in all;
- *bound*: m·n/(m+n−1), and the same for stages that are as uneven as they were measured to be in this run;
- *predicted*: the cost model, from the layers' profile.

The table shows speed-ups over *one*. ``share`` is pipeline ÷ the bound for the measured stages.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from saman.configs.files import read_lines
from saman.pipeline.cost import speedup
from saman.pipeline.schedule import bubble_bound

HERE = Path(__file__).parent
BATCH = 64
EXPERIMENT = """
name: speed
model: {build: "pipeline_model:convolutions", args: {}}
data: {source: synthetic, args: {shape: [24, 24, 16], classes: 10, examples: 64}, validation_fraction: 0}
train:
  strategy: single
  epochs: 1000
  max_steps: %d
  global_batch_size: %d
  telemetry_window_steps: 1
  checkpoint: {every_epochs: null}
resources: {cpus_per_rank: 1}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("pipeline-speed"))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--micro-batches", default="1,2,4,8,16,32")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before the first run", flush=True)
    (asked.out / "speed.yaml").write_text(EXPERIMENT % (asked.steps, BATCH))
    (asked.out / "pipeline_model.py").write_text((HERE / "pipeline_model.py").read_text())
    print("| M | one, ms/step | pipeline | bound | bound for these stages | share | data | predicted | waiting |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = [row(asked.out, int(text)) for text in asked.micro_batches.split(",")]
    (asked.out / "speed.json").write_text(json.dumps(rows, indent=1))


def row(folder: Path, micro_batches: int) -> dict[str, Any]:
    """Measure one line of the table, and print it."""
    at_once = [started(folder, core, 1, f"train.micro_batches={micro_batches}") for core in ("0", "1")]
    one = statistics.mean(seconds(windows(one)[0]) for one in at_once)
    split = ("train.strategy=pipeline", f"train.micro_batches={micro_batches}")
    stages = windows(started(folder, "0,1", 2, *split))
    pipeline = seconds(stages[0])
    data = ("train.strategy=horovod", f"train.micro_batches={max(1, micro_batches // 2)}")
    parallel = seconds(windows(started(folder, "0,1", 2, *data))[0])
    busy = [_tenth([_busy(window) for window in _steady(stage)]) for stage in stages]
    bound = speedup(busy, micro_batches)
    said = subprocess.run(
        [sys.executable, "-m", "saman", "partition", "speed.yaml", "-np", "2", "--json", *split],
        cwd=folder, capture_output=True, text=True, check=True,
    )
    found = {
        "micro_batches": micro_batches,
        "one_seconds": one,
        "pipeline": one / pipeline,
        "bound": bubble_bound(micro_batches, 2),
        "bound_measured": bound,
        "share": one / pipeline / bound,
        "data": one / parallel,
        "predicted": json.loads(said.stdout)["speedup"],
        "busy_seconds": busy,
        "waiting": [statistics.median(w["bubble_seconds"] / w["seconds"] for w in _steady(stage)) for stage in stages],
    }
    print(
        f"| {micro_batches} | {one * 1e3:.0f} | {found['pipeline']:.2f} | {found['bound']:.2f} | {bound:.2f} "
        f"| {found['share']:.0%} | {found['data']:.2f} | {found['predicted']:.2f} "
        f"| {', '.join(f'{share:.0%}' for share in found['waiting'])} |",
        flush=True,
    )
    return found


def started(folder: Path, cores: str, ranks: int, *overrides: str) -> subprocess.Popen[str]:
    """A run on ``cores`` only, which ranks share out among themselves."""
    command = ["taskset", "-c", cores, sys.executable, "-m", "saman", "run", "speed.yaml", "-np", str(ranks), "--json"]
    command += [*overrides, *(["launch.with=mpirun"] if ranks > 1 else [])]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)  # type: ignore[call-overload]


def windows(process: subprocess.Popen[str]) -> list[list[dict[str, Any]]]:
    """Telemetry of each rank, once the run has ended."""
    out, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{out}\n{err}")
    attempt = Path(json.loads(out)["run"]) / "attempts" / "1" / "telemetry"
    return [read_lines(file)[0] for file in sorted(attempt.glob("*.jsonl"))]


def seconds(telemetry: list[dict[str, Any]]) -> float:
    """Seconds that a tenth of the steps after the first three undercut: other work on the machine only adds."""
    return _tenth([window["seconds"] / window["steps"] for window in _steady(telemetry)])


def _tenth(values: list[float]) -> float:
    return sorted(values)[len(values) // 10]


def _steady(telemetry: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return telemetry[3:]


def _busy(window: dict[str, Any]) -> float:
    other = ("bubble_seconds", "transfer_seconds", "exchange_seconds", "input_wait_seconds")
    return float(window["seconds"]) - sum(float(window.get(name) or 0) for name in other)


if __name__ == "__main__":
    main()
