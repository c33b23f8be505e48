"""Kills random ranks of an elastic run with SIGKILL and compares its final weights with an undisturbed run's.

    python benchmarks/elastic/kills.py [--kills 20] [--seed 1] [--precision float64] [--ranks 4] [--min 2] [--out DIR]
    python benchmarks/elastic/kills.py --every 60 --kills 6 --ranks 2 --min 1 --warm-spares 1   # goodput

The run goes on until the last kill is survived and all ranks are back; then it is asked to stop, and ``single`` takes
as many steps. A kill strikes a random member of the newest world a random time after that world took its first step,
if enough ranks are left. Prints each kill, the
seconds of each phase of each recovery, and the largest relative difference of a tensor, ‖w − w_ref‖ / ‖w_ref‖. With
``--every`` the kills come at fixed times, and there is no other run: it shows the goodput, kept steps × undisturbed
step time ÷ wall time, of the whole run and from its first step on. Exit status 1 if the difference exceeds 1e-10
(float64) or 1e-4 (float32).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from saman.runs import checkpoints
from saman.runs.elastic.world_events import WorldFormed
from saman.runs.folder import RunFolder
from saman.runs.ranks.attempt_ranks import read_records
from saman.runs.telemetry.goodput import measure_goodput

BOUNDS = {"float64": 1e-10, "float32": 1e-4}
PHASES = ("detected", "left", "formed", "agreed", "stepped")


@dataclass(frozen=True)
class Kill:
    """A rank's program that was killed: its slot, the world's size before, the step then, and the Unix time."""

    slot: int
    size: int
    step: int
    time: float


def main() -> int:
    """Run, kill, compare; return the exit status."""
    asked = _arguments()
    asked.out.mkdir(parents=True, exist_ok=True)
    print(
        f"seed {asked.seed}: {asked.kills} kills, {asked.ranks} ranks, at least {asked.min}, {asked.precision}",
        flush=True,
    )
    run, kills = disturbed_run(asked)
    table = list(recoveries(run, kills))
    show(table)
    (asked.out / "kills.json").write_text(json.dumps([asdict(kill) for kill in kills]))
    show_goodput(run)
    if asked.every is not None:
        return 0
    checkpoint = next(
        checkpoint for checkpoint, problem in checkpoints.newest_sound(run.checkpoints) if problem is None
    )
    reference = single_run(asked, checkpoint.step)
    apart = distance(run, reference)
    bound = BOUNDS[asked.precision]
    print(
        f"{len(kills)} kills, {checkpoint.step} steps; "
        f"largest relative difference of a tensor: {apart:.2e} (at most {bound:.0e})"
    )
    print(f"run: {run.path}\nreference: {reference.path}")
    return 0 if apart <= bound and len(kills) == asked.kills and len(table) == len(kills) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--precision", choices=sorted(BOUNDS), default="float64")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--min", type=int, default=2)
    parser.add_argument("--model", default="mlp", help="a built-in model")
    parser.add_argument(
        "--batch", type=int, default=50, help="examples per step; need not divide by every number of ranks"
    )
    parser.add_argument("--examples", type=int, help="train on as many random images; by default on the digits")
    parser.add_argument("--every", type=float, help="seconds between kills; by default they come at random times")
    parser.add_argument("--warm-spares", type=int, default=0, help="processes that wait for a place")
    parser.add_argument("--spare-core", type=int, help="a core for spares alone; the ranks share the others")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long, with fewer kills")
    parser.add_argument("--out", type=Path, default=Path("elastic-kills"))
    return parser.parse_args()


def experiment(asked: argparse.Namespace, elastic: bool, steps: int | None = None) -> dict[str, Any]:
    """Return the experiment: elastic, or ``single`` with ``steps`` steps."""
    train = {
        "strategy": "horovod" if elastic else "single",
        "global_batch_size": asked.batch,
        "epochs": 100_000,
        "optimizer": {"name": "adam"},
        "learning_rate": 1e-4,
        "precision": asked.precision,
        "validate_every_epochs": 20 if asked.every is None else 1000,
        "checkpoint": {"every_epochs": 100 if asked.every is None else 1000},
        "telemetry_window_steps": 10,
        **({"compare_ranks_every": 10} if elastic else {}),
        **({} if steps is None else {"max_steps": steps}),
    }
    limits = {"min": asked.min, "max": asked.ranks, "warm_spares": asked.warm_spares}
    launch = {"launch": {"elastic": limits}} if elastic else {}
    return {
        "name": "kills" if elastic else "undisturbed",
        "model": {"build": asked.model},
        "data": {"source": "digits"} if asked.examples is None else _synthetic(asked.examples),
        "train": train,
        "resources": {"ranks_per_node": asked.ranks if elastic else 1},
        "export": False,
        **launch,
    }


def _synthetic(examples: int) -> dict[str, Any]:
    return {"source": "synthetic", "args": {"examples": examples}}


def start(asked: argparse.Namespace, values: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start ``saman run`` on an experiment."""
    file = asked.out / f"{values['name']}.json"
    file.write_text(json.dumps(values))
    log = (asked.out / f"{values['name']}.log").open("wb")
    command = [sys.executable, "-m", "saman", "run", str(file), "--runs-dir", str(asked.out / "runs")]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def disturbed_run(asked: argparse.Namespace) -> tuple[RunFolder, list[Kill]]:
    """Run until every kill is survived and all ranks are back."""
    chance, kills = random.Random(asked.seed), []
    process = start(asked, experiment(asked, elastic=True))
    try:
        run = _await(partial(newest_run, asked.out, "kills"), process)
        if asked.spare_core is not None:
            threading.Thread(target=part_cores, args=(run, asked.spare_core), daemon=True).start()
        end = time.time() + asked.seconds
        while len(kills) < asked.kills and time.time() < end:
            before = kills[-1].time if kills else 0.0
            world = _await(partial(_stepped_since, run, before, asked.min + 1), process)
            if asked.every is not None:
                first = worlds(run)[0]
                last = kills[-1].time if kills else first.detected + first.seconds["stepped"]
                time.sleep(max(0.0, last + asked.every - time.time()))
                world = worlds(run)[-1]
            else:
                time.sleep(chance.uniform(0.2, 4.0))
            kill = strike(run, world, chance, asked.min)
            if kill is not None:
                kills.append(kill)
                print(f"kill {len(kills)}: slot {kill.slot} of {kill.size} ranks at step {kill.step}", flush=True)
        last = kills[-1].time
        _await(partial(_stepped_since, run, last, asked.ranks), process)
        if asked.every is not None:
            time.sleep(max(0.0, last + asked.every - time.time()))  # what follows the last kill counts as well
        run.request_stop("the kills are over", "kills.py")
        process.wait()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait()
    return run, kills


def part_cores(run: RunFolder, spare_core: int) -> None:
    """Keep the processes without a place on a core of their own, and the members of the world on the others."""
    others = os.sched_getaffinity(0) - {spare_core}
    while True:
        formed, attempts = worlds(run), run.attempts()
        members = formed[-1].slots if formed else ()
        for slot, record in (read_records(attempts[-1]) if attempts else {}).items():
            cores = others if slot in members or not formed else {spare_core}
            with contextlib.suppress(OSError, ValueError):
                threads = [int(entry.name) for entry in Path(f"/proc/{record.pid}/task").iterdir()]
                for thread in threads:
                    if os.sched_getaffinity(thread) != cores:
                        os.sched_setaffinity(thread, cores)
        time.sleep(0.2)


def strike(run: RunFolder, seen: WorldFormed, chance: random.Random, least: int) -> Kill | None:
    """Kill the program of a random member, unless the world has changed since or would become too small."""
    found = worlds(run)
    if found[-1].generation != seen.generation or seen.size <= least:
        return None
    slot = chance.choice(seen.slots)
    attempt = run.attempts()[-1]
    record = read_records(attempt).get(slot)
    if record is None or record.has_ended or record.pid is None:
        return None
    now = time.time()
    try:
        os.kill(record.pid, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return Kill(slot, seen.size, seen.step, now)


def worlds(run: RunFolder) -> list[WorldFormed]:
    """Return the worlds of the run so far."""
    return [world for event in run.events() if (world := WorldFormed.from_event(event)) is not None]


def _stepped_since(run: RunFolder, moment: float, least: int) -> WorldFormed | None:
    found = worlds(run)
    newest = found[-1] if found else None
    if newest is None or newest.detected <= moment or newest.size < least or "stepped" not in newest.seconds:
        return None
    return newest


def newest_run(out: Path, name: str) -> RunFolder | None:
    """Return the newest run folder of an experiment; ``None`` before there is one."""
    found = sorted((out / "runs" / name).glob("2*"))
    return RunFolder.open(found[-1]) if found and (found[-1] / "events.jsonl").exists() else None


def _await(look: Any, process: subprocess.Popen[bytes]) -> Any:
    while (found := look()) is None:
        if process.poll() is not None:
            raise SystemExit(f"the run ended early with exit status {process.returncode}")
        time.sleep(0.05)
    return found


def recoveries(run: RunFolder, kills: list[Kill]) -> Iterator[tuple[Kill, WorldFormed, list[float]]]:
    """Yield each kill with the world that it led to, and the seconds from the kill to the end of each phase.

    If a rank joins before the survivors' world takes a step, the joint world counts.
    """
    found = worlds(run)
    for kill in kills:
        ended = next((world for world in found if world.detected >= kill.time and kill.slot in world.lost), None)
        later = [world for world in found if ended is not None and world.generation >= ended.generation]
        world = next((world for world in later if "stepped" in world.seconds), None)
        if world is not None:
            wait = world.detected - kill.time
            yield kill, world, [wait, *(wait + world.seconds[phase] for phase in PHASES[1:])]


def show(table: list[tuple[Kill, WorldFormed, list[float]]]) -> None:
    """Print the recoveries, and their medians."""
    print("\nseconds from the kill until\nkill  slot  ranks   " + "  ".join(f"{phase:>8}" for phase in PHASES))
    for number, (kill, world, seconds) in enumerate(table, 1):
        print(
            f"{number:4}  {kill.slot:4}  {kill.size} → {world.size}   "
            + "  ".join(f"{value:8.3f}" for value in seconds)
        )
    if table:
        columns = list(zip(*(seconds for _, _, seconds in table), strict=True))
        print("median              " + "  ".join(f"{statistics.median(column):8.3f}" for column in columns))
        print("largest             " + "  ".join(f"{max(column):8.3f}" for column in columns) + "\n", flush=True)


def show_goodput(run: RunFolder) -> None:
    """Print the goodput of the run, and without its start."""
    found = measure_goodput(run, run.events())
    if found is not None:
        useful = found.kept_steps * found.step_seconds
        running = useful / (found.wall_seconds - found.start_seconds)
        print(f"{found.words}; from the first step on {running:.1%}\n{json.dumps(found.to_json())}", flush=True)


def single_run(asked: argparse.Namespace, steps: int) -> RunFolder:
    """Take the same steps without any disturbance, in a single process."""
    start(asked, experiment(asked, elastic=False, steps=steps)).wait()
    found = newest_run(asked.out, "undisturbed")
    assert found is not None
    return found


def distance(run: RunFolder, reference: RunFolder) -> float:
    """Return the largest relative difference of a tensor between the newest checkpoints of two runs."""
    ours, theirs = (_arrays(each) for each in (run, reference))
    assert ours.keys() == theirs.keys()
    return max(
        float(np.linalg.norm(ours[name] - value) / max(np.linalg.norm(value), 1e-300))
        for name, value in theirs.items()
        if np.issubdtype(value.dtype, np.floating)
    )


def _arrays(run: RunFolder) -> dict[str, np.ndarray]:
    checkpoint = next(
        checkpoint for checkpoint, problem in checkpoints.newest_sound(run.checkpoints) if problem is None
    )
    return checkpoint.read()[1]


if __name__ == "__main__":
    sys.exit(main())
