"""The long campaign (``make tune-campaign``): trials as Slurm arrays on a minicluster, a fifth of them SIGKILLed.

It goes on where it stopped: ``--seconds`` ends a part of it by SIGKILL of ``saman tune`` itself. The last part prints
the figures and ends with an error if a promise does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saman.runs.find import find_runs
from saman.runs.folder import RunFolder
from saman.runs.ranks.training_events import EpochEnd
from saman.runs.records.run_events import Creation, JobSubmission
from saman.slurm import minicluster
from saman.slurm.submission.run_jobs import jobs_of

EPOCHS, TOLERANCE, SHARE_KILLED, BOUND = 27, 0.05, 0.2, 1 / 3
STUDY = """
name: campaign
experiment: quickstart       # confirms the best values that the light program finds
set: {train.strategy: single, resources.ranks_per_node: 1, resources.cpus_per_rank: 1, resources.memory_per_rank: 2G,
      train.epochs: 10, resources.time_limit: "00:10:00"}
program:
  command: [PYTHON, curve.py, "{train.learning_rate.base}", "{train.optimizer.momentum}", "27", "SECONDS"]
  epochs: 27
  resources: {cpus_per_rank: 1, memory_per_rank: 200M, time_limit: "00:20:00"}
  launch: {directory: run}
space:
  train.learning_rate.base: {low: 0.0001, high: 1.0, log: true}
  train.optimizer.momentum: {low: 0.0, high: 0.95}
objective: {metric: val_loss, goal: minimize}
sampler: tpe
pruner: asha
seed: 1
trials: TRIALS
concurrency: 12
confirm: {seeds: 3, publish: campaign, if: {metric: val_accuracy, at_least: 0.8}}
"""


@dataclass
class Killer:
    """Kills each doomed trial once, during its first start: its program, or its whole job."""

    folder: Path
    trials: int

    def __post_init__(self) -> None:
        self.doomed = set(random.Random(9).sample(range(self.trials), round(SHARE_KILLED * self.trials)))
        self.record = self.folder / "kills.json"
        self.done: dict[str, str] = json.loads(self.record.read_text()) if self.record.exists() else {}

    def look(self, runs: list[RunFolder]) -> None:
        """Kill what is due."""
        for run in runs:
            number = trial_of(run)
            if number in self.doomed and str(number) not in self.done and len(run.attempts()) == 1:
                self._kill(run, number)

    def _kill(self, run: RunFolder, number: int) -> None:
        program = program_of(run)
        if program is None or (number % 2 and not epochs_of(run)):  # the odd ones after their first epoch
            return
        if number % 4 < 2:
            with contextlib.suppress(ProcessLookupError):
                os.kill(program, signal.SIGKILL)
            self.done[str(number)] = "program"
        else:
            job = jobs_of(run.events())[-1]
            subprocess.run(["scancel", "--signal=KILL", "--full", job], check=False)
            self.done[str(number)] = "job"
        self.record.write_text(json.dumps(self.done))


def trial_of(run: RunFolder) -> int | None:
    """The number of the trial that a run belongs to; ``None`` for the runs with other seeds."""
    found = re.fullmatch(r"\w+/(\d+)", str(Creation.find(run.events()[:1]).trial))
    return int(found[1]) if found else None


def epochs_of(run: RunFolder) -> list[int]:
    """Every epoch that a run reported."""
    return [epoch.epoch for event in run.events() if (epoch := EpochEnd.from_event(event)) is not None]


def program_of(run: RunFolder) -> int | None:
    """The process of the run's program: it works in the run folder."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[1:2] and words[1].endswith(b"curve.py") and (process / "cwd").readlink() == run.path:
                return int(process.name)
    return None


def command(folder: Path) -> list[str]:
    """The command of the study."""
    where = ["--cluster", "minicluster", "--partition", "main", "--json"]
    return [sys.executable, "-m", "saman", "tune", str(folder / "study.yaml"), *where]


def run_part(folder: Path, trials: int, seconds: float) -> dict[str, Any] | None:
    """Run a part; returns the study if it is complete."""
    killer = Killer(folder, trials)
    with (folder / "tune.json").open("w") as out, (folder / "tune.log").open("a") as log:
        study = subprocess.Popen(command(folder), cwd=folder, stdout=out, stderr=log)
        end = time.monotonic() + seconds
        while study.poll() is None and time.monotonic() < end:
            killer.look(find_runs(folder / "runs", "campaign"))
            time.sleep(0.5)
        if study.poll() is None:
            study.kill()  # no word of farewell: the next part goes on all the same
            study.wait()
            return None
    if study.returncode != 0:
        sys.exit(f"saman tune ended with {study.returncode}; see {folder / 'tune.log'}")
    found: dict[str, Any] = json.loads((folder / "tune.json").read_text())
    return found


def every_job(run: RunFolder) -> list[str]:
    """The job of each start of a run, oldest first."""
    sent = [JobSubmission.from_event(event) for event in run.events()]
    return list(dict.fromkeys(each.job for each in sent if each is not None))


def elapsed_seconds(jobs: list[str]) -> dict[str, float]:
    """Node-seconds of each job, by Slurm's accounting."""
    asked = ["sacct", "-n", "-P", "-X", "-o", "JobID,ElapsedRaw,NNodes", "-j", ",".join(jobs)]
    lines = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    parts = [line.split("|") for line in lines]
    return {job: float(elapsed) * int(nodes or 1) for job, elapsed, nodes in parts}


def judge(folder: Path, study: dict[str, Any], trials: int) -> Iterator[str]:
    """Print the figures; yields every promise that does not hold."""
    runs = {run.id: run for run in find_runs(folder / "runs", "campaign")}
    searched = {name: run for name, run in runs.items() if trial_of(run) is not None}
    numbers = Counter(trial_of(run) for run in searched.values())
    if numbers != Counter(range(trials)) or [trial["trial"] for trial in study["trials"]] != list(range(trials)):
        yield "a trial is lost or double"
    doubled = [name for name, run in searched.items() if epochs_of(run) != sorted(set(epochs_of(run)))]
    if doubled:
        yield f"epochs were counted twice in {doubled}"
    if set(study["outcomes"]) - {"complete", "pruned"}:
        yield f"trials did not end well: {study['outcomes']}"
    kills = json.loads((folder / "kills.json").read_text())
    seconds = elapsed_seconds([job for run in searched.values() for job in every_job(run)])
    used = sum(seconds.get(job, 0.0) for run in searched.values() for job in every_job(run))
    whole = [
        seconds[every_job(runs[trial["run"]])[0]]
        for trial in study["trials"]
        if trial["outcome"] == "complete" and not trial["retries"]
    ]
    full = trials * statistics.fmean(whole)
    if used > BOUND * full:
        yield f"{used / full:.2f} of the node-hours of running every trial to its end"
    best = study["best"]
    rate, momentum = best["settings"].values()
    distance = (math.log10(rate) + 1) ** 2 + 4 * (momentum - 0.5) ** 2
    if distance > TOLERANCE:
        yield f"the best trial is {distance:.3f} above the optimum, tolerance {TOLERANCE}"
    if len(kills) < 0.9 * SHARE_KILLED * trials:
        yield f"only {len(kills)} trials were killed"
    if "published" not in study:
        yield f"not published: {study.get('not_published')}"
    print(f"trials {len(study['trials'])}, {study['outcomes']}; run folders {len(searched)}")
    again = sum(trial["retries"] for trial in study["trials"])
    print(f"killed {len(kills)} ({dict(Counter(kills.values()))}); starts after kills {again}")
    print(f"node-hours {used / 3600:.3f} of {full / 3600:.3f} ({used / full:.1%}), by Slurm's accounting")
    print(f"best trial {best['trial']}: {best['settings']}, {distance:.4f} above the optimum (tolerance {TOLERANCE})")
    print(f"published {study.get('published')}; seeds {study.get('seeds')}")


def main() -> None:
    """Run the campaign, or a part of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("/tmp/saman-campaign"))
    parser.add_argument("--seconds", type=float, default=86400.0, help="end this part after so long")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epoch-seconds", type=float, default=8.0)
    asked = parser.parse_args()
    root = asked.folder / "mc"
    folder = root / "shared"
    asked.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    minicluster.up(4, root)
    os.environ.update(minicluster.environment(root))
    folder.mkdir(exist_ok=True)
    shutil.copy(Path(__file__).with_name("curve.py"), folder)
    text = STUDY.replace("PYTHON", sys.executable).replace("TRIALS", str(asked.trials))
    (folder / "study.yaml").write_text(text.replace("SECONDS", f"{asked.epoch_seconds:g}"))
    study = run_part(folder, asked.trials, asked.seconds)
    if study is None:
        print("stopped; the same command goes on")
        return
    broken = list(judge(folder, study, asked.trials))
    minicluster.down(root)
    if broken:
        sys.exit("\n".join(["does not hold:", *broken]))


if __name__ == "__main__":
    main()
