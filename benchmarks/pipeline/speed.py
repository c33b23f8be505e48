"""Two stages on two cores against one process on one core, the bubble bound, data parallelism, and the prediction.

    python benchmarks/pipeline/speed.py [--out DIR] [--steps 15] [--repeats 3] [--micro-batches 1,2,4,8,16,32]

For each number M of micro-batches, with the same global batch. The figure of a run is the median of its steps. The
figure of the table is the median over repeats; each repeat does all runs in turn:

- *one*: a process pinned to one core, while an equal process keeps the other core busy; the mean of the two;
- *pipeline*: 2 stages, each pinned to one core, 1F1B, cuts found by the partitioner;
- *data*: 2 Horovod ranks, each pinned to one core, with the same micro-batches in all;
- *bound*: m·n/(m+n−1), and the same for stages that are as uneven as they were measured to be in this run;
- *predicted*: the cost model, from the layers' profile.

The table shows speed-ups over *one*. ``share`` is pipeline ÷ the bound for the measured stages, with its least and
largest over the repeats.
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

from saman.pipeline.cost import speedup
from saman.pipeline.schedule import bubble_bound
from saman.runs.folder import RunFolder
from saman.runs.telemetry.window import Window, read_windows

HERE = Path(__file__).parent
BATCH = 64
EXPERIMENT = """
name: speed
model: {build: "pipeline_model:convolutions", args: {}}
data: {source: synthetic, args: {shape: [24, 24, 16], classes: 10, examples: 1024}, validation_fraction: 0}
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
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--micro-batches", default="1,2,4,8,16,32")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before the first run", flush=True)
    (asked.out / "speed.yaml").write_text(EXPERIMENT % (asked.steps, BATCH))
    (asked.out / "pipeline_model.py").write_text((HERE / "pipeline_model.py").read_text())
    print("| M | one, ms/step | pipeline | bound | bound for these stages | share | data | predicted | waiting |")
    print("|---|---|---|---|---|---|---|---|---|")
    found = []
    for text in asked.micro_batches.split(","):
        found.append([measure(asked.out, int(text)) for _ in range(asked.repeats)])
        print(row(found[-1]), flush=True)
        (asked.out / "speed.json").write_text(json.dumps(found, indent=1))


def row(repeats: list[dict[str, Any]]) -> str:
    """Return a line of the table."""

    def median(name: str) -> float:
        return statistics.median(repeat[name] for repeat in repeats)

    shares = [repeat["share"] for repeat in repeats]
    waiting = (statistics.median(stage) for stage in zip(*(repeat["waiting"] for repeat in repeats), strict=True))
    return (
        f"| {repeats[0]['micro_batches']} | {median('one_seconds') * 1e3:.0f} | {median('pipeline'):.2f} "
        f"| {median('bound'):.2f} | {median('bound_measured'):.2f} "
        f"| {median('share'):.0%} ({min(shares):.0%}–{max(shares):.0%}) | {median('data'):.2f} "
        f"| {median('predicted'):.2f} | {', '.join(f'{share:.0%}' for share in waiting)} |"
    )


def measure(folder: Path, micro_batches: int) -> dict[str, Any]:
    """Measure a repeat for ``micro_batches``."""
    at_once = [start(folder, core, 1, f"train.micro_batches={micro_batches}") for core in ("0", "1")]
    alone = statistics.mean(seconds(windows(process)[0]) for process in at_once)
    split = ("train.strategy=pipeline", f"train.micro_batches={micro_batches}")
    stages = windows(start(folder, "0,1", 2, *split), 2)
    pipeline = seconds(stages[0])
    data = ("train.strategy=horovod", f"train.micro_batches={max(1, micro_batches // 2)}")
    parallel = seconds(windows(start(folder, "0,1", 2, *data))[0])
    busy = [statistics.median(_busy(window) for window in _steady(stage)) for stage in stages]
    bound = speedup(busy, micro_batches)
    said = subprocess.run(
        [sys.executable, "-m", "saman", "partition", "speed.yaml", "-np", "2", "--json", *split],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return {
        "micro_batches": micro_batches,
        "one_seconds": alone,
        "pipeline": alone / pipeline,
        "bound": bubble_bound(micro_batches, 2),
        "bound_measured": bound,
        "share": alone / pipeline / bound,
        "data": alone / parallel,
        "predicted": json.loads(said.stdout)["speedup"],
        "busy_seconds": busy,
        "waiting": [
            statistics.median((w.bubble_seconds or 0.0) / w.seconds for w in _steady(stage)) for stage in stages
        ],
    }


def start(folder: Path, cores: str, ranks: int, *overrides: str) -> subprocess.Popen[str]:
    """Start a run on ``cores``, which its ranks share."""
    command = ["taskset", "-c", cores, sys.executable, "-m", "saman", "run", "speed.yaml", "-np", str(ranks), "--json"]
    command += [*overrides, *(["launch.with=mpirun"] if ranks > 1 else [])]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, **pipes)  # type: ignore[call-overload]


def windows(process: subprocess.Popen[str], ranks: int = 1) -> list[list[Window]]:
    """Wait for a run; return the telemetry of each rank."""
    out, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{out}\n{err}")
    run = RunFolder.open(Path(json.loads(out)["run"]))
    return [read_windows(run, rank)[0] for rank in range(ranks)]


def seconds(telemetry: list[Window]) -> float:
    """Return the seconds of a step: the median of all but the first three steps."""
    return statistics.median(window.seconds / window.steps for window in _steady(telemetry))


def _steady(telemetry: list[Window]) -> list[Window]:
    return telemetry[3:]


def _busy(window: Window) -> float:
    other = (window.bubble_seconds, window.transfer_seconds, window.exchange_seconds, window.input_wait_seconds)
    return window.seconds - sum(value or 0.0 for value in other)


if __name__ == "__main__":
    main()
