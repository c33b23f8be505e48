"""What a run costs the shared file system and its supervisor: metadata operations, files, seconds per look.

    python benchmarks/launcher/shared_files.py [--short]

Light programs stand in for training: they send heartbeats, write telemetry ten times a second and look for a stop
request as the training loop does. Each is a node of its own, by name. Every file call of the run is counted with
``strace``; a metadata operation is a call that names a file in the run folder, reads a folder or truncates a file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from saman.configs.schemas.experiment import Experiment
from saman.launcher.plan.placement import Placement, Process, Seat
from saman.launcher.planning import Options, gather_facts, make_plan
from saman.launcher.supervision.progress import AttemptWatch
from saman.launcher.supervision.signals import RecordedSignals
from saman.launcher.supervision.stalls import find_stall
from saman.launcher.supervision.supervisor import SupervisionOptions, supervise
from saman.runs.files.slots import SlotFile
from saman.runs.folder import RunFolder
from saman.runs.ranks.heartbeats import Beat, BeatObserver
from saman.runs.ranks.node_report import NodeReport
from saman.runs.ranks.records import RankRecord

CASES = ((2, 1), (2, 8), (8, 1), (32, 1))  # nodes, ranks per node
SHORT = ((2, 1), (6, 1))
EXTRAPOLATED = 10_000  # nodes
SETTLE_SECONDS, COUNT_SECONDS = 6.0, 20.0
TRACED = "trace=%file,getdents64,ftruncate,fdatasync,fsync,pwrite64"
PROGRAM = """
import os, sys, time
from pathlib import Path
from saman.runs.files.whole import append_line
from saman.runs.ranks.heartbeats import Heartbeat
from saman.runs.telemetry.window import Window
heartbeat, rank = Heartbeat.from_environment(), int(os.environ["SAMAN_FIRST_RANK"])
run = Path(os.environ["SAMAN_RUN"])
telemetry = Path(os.environ.get("SAMAN_TELEMETRY") or run / "attempts/1/telemetry" / f"{rank:05d}.jsonl")
print("begun", flush=True)
step = 0
while not os.path.exists(sys.argv[1]):
    step += 1
    heartbeat.beat("train", step, 1, 10**6)
    append_line(telemetry, Window(rank, 1, 1, step, 1, 1, 8, 0.1, 0.0).to_json())
    if rank == 0 and step % 5 == 0:
        (run / "control" / "stop").exists()
    if step % 10 == 0:
        print("step", step, flush=True)
    time.sleep(0.1)
heartbeat.close()
"""
_CALL = re.compile(r"^\d+ +(?P<time>[\d.]+) (?P<call>\w+)\((?P<rest>.*)$")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')
_FOLDER = re.compile(r"^(?:AT_FDCWD|\d+)<([^>]*)>")


@dataclass(frozen=True)
class Counted:
    """What a run on ``nodes`` nodes did per second while it trained, and the files that its attempt holds."""

    nodes: int
    ranks_per_node: int
    metadata: float
    by_file: Counter[str]
    writes: float
    files: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="two small cases, and fewer ranks for the supervisor")
    parser.add_argument("--drive", nargs=3, help=argparse.SUPPRESS)  # in the traced process
    asked = parser.parse_args()
    if asked.drive:
        drive(Path(asked.drive[0]), int(asked.drive[1]), int(asked.drive[2]))
        return
    with tempfile.TemporaryDirectory(prefix="saman-shared-files-") as folder:
        count_all(Path(folder), SHORT if asked.short else CASES)
    # In memory: a look reads what the last rounds of the nodes left there, and the disk is no part of it.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(prefix="saman-shared-files-", dir=memory) as folder:
        watch_all(Path(folder), (100, 1000) if asked.short else (100, 1000, 10_000))


# ---- file calls ----------------------------------------------------------------------------------------


def count_all(folder: Path, cases: tuple[tuple[int, int], ...]) -> None:
    """Count the file calls of each case, and print them."""
    print("nodes  ranks  metadata operations/s  writes/s  files of the attempt  most often")
    found = []
    for nodes, per_node in cases:
        each = count(folder / f"{nodes}-{per_node}", nodes, per_node)
        found.append(each)
        often = ", ".join(f"{name} {number:.1f}" for name, number in each.by_file.most_common(4))
        print(f"{nodes:5}  {nodes * per_node:5}  {each.metadata:21.1f}  {each.writes:8.1f}  {each.files:20}  {often}")
    single = [each for each in found if each.ranks_per_node == 1]
    few, many = single[0], single[-1]
    slope = (many.metadata - few.metadata) / (many.nodes - few.nodes)
    files = (many.files - few.files) / (many.nodes - few.nodes)
    at = few.metadata + slope * (EXTRAPOLATED - few.nodes)
    print(f"per node: {slope:+.3f} metadata operations/s, {files:.2f} files; at {EXTRAPOLATED:,} nodes: {at:.1f}/s")


def count(folder: Path, nodes: int, per_node: int) -> Counted:
    """Run light ranks under strace, and count."""
    folder.mkdir()
    trace = folder / "trace"
    command = ["strace", "-f", "-qq", "--seccomp-bpf", "-ttt", "-y", "-s", "512", "-e", TRACED, "-o", str(trace)]
    done = subprocess.run(
        [*command, sys.executable, __file__, "--drive", str(folder), str(nodes), str(per_node)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"the traced run failed (strace is needed):\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    told = json.loads((folder / "told.json").read_text())
    run = Path(told["run"])
    seconds = told["end"] - told["begin"]
    metadata: Counter[str] = Counter()
    writes = 0
    for call, path in calls(trace, told["begin"], told["end"], str(run)):
        if call in ("pwrite64", "fdatasync", "fsync"):
            writes += call == "pwrite64"
        else:
            metadata[Path(path).relative_to(run).as_posix()] += 1
    by_file = Counter({name: number / seconds for name, number in metadata.items()})
    files = sum(path.is_file() for path in (run / "attempts" / "1").rglob("*"))
    return Counted(nodes, per_node, sum(metadata.values()) / seconds, by_file, writes / seconds, files)


def calls(trace: Path, begin: float, end: float, run: str) -> Iterator[tuple[str, str]]:
    """Each traced call on a file in the run folder between two times, with the path of the file."""
    with trace.open(errors="replace") as lines:
        for line in lines:
            found = _CALL.match(line)
            if found is None or not begin <= float(found["time"]) <= end:
                continue
            at, named = _FOLDER.match(found["rest"]), _PATH.search(found["rest"])
            if found["call"] in ("getdents64", "ftruncate", "fdatasync", "fsync", "pwrite64"):
                path = at[1] if at else ""
            else:
                path = str(Path(at[1] if at else "/") / named[1]) if named and named[1] else ""
            if path == run or path.startswith(f"{run}/"):
                yield found["call"], path


def drive(folder: Path, nodes: int, per_node: int) -> None:
    """Supervise light ranks that pose as ranks on several nodes; returns when all train, and for how long."""
    experiment = Experiment.model_validate(
        {
            "name": "light", "model": {"build": "mlp"}, "data": {"source": "digits"},
            "train": {"global_batch_size": nodes * per_node},
            "resources": {"ranks_per_node": nodes * per_node, "cpus_per_rank": 1},
            "launch": {"with": "processes"},
        }
    )  # fmt: skip
    run = RunFolder.create(folder / "runs", experiment)
    attempt = run.new_attempt()
    facts = replace(gather_facts(), horovod=None)
    plan = make_plan(experiment, folder, (), Options(facts=facts), run.path, attempt.number)
    placement = Placement(tuple(_processes(nodes, per_node, pinned=False)), 1)
    placement.write(attempt.placement)
    program, over = folder / "program.py", folder / "over"
    program.write_text(PROGRAM)
    commands = tuple(
        replace(
            command,
            argv=(*command.argv[: command.argv.index("--") + 1], sys.executable, str(program), str(over)),
            environment={**command.environment, "SLURMD_NODENAME": process.node},
        )
        for command, process in zip(plan.start.commands, placement.processes, strict=True)
    )
    threading.Thread(target=_tell, args=(run, folder, over, nodes, nodes * per_node), daemon=True).start()
    start = replace(plan.start, commands=commands, companions=())
    watching = SupervisionOptions({"train": 600.0})
    outcome = supervise(run, attempt, start, placement, plan.environment, RecordedSignals(), watching)
    if outcome.exit_code:
        raise SystemExit(outcome.message)


def _tell(run: RunFolder, folder: Path, over: Path, nodes: int, ranks: int) -> None:
    """Wait until all ranks train and their nodes have opened their files, then for the seconds that count."""
    folder_of_nodes = run.attempt(1).nodes_folder
    while sum(event.kind == "rank_started" for event in run.events()) < ranks:
        time.sleep(1.0)
    while not {*range(nodes)} <= {int(path.stem) for path in folder_of_nodes.glob("*.log")}:
        time.sleep(1.0)
    time.sleep(SETTLE_SECONDS)
    begin = time.time()
    time.sleep(COUNT_SECONDS)
    (folder / "told.json").write_text(json.dumps({"begin": begin, "end": time.time(), "run": str(run.path)}))
    over.touch()


# ---- the supervisor ------------------------------------------------------------------------------------


def watch_all(folder: Path, counts: tuple[int, ...]) -> None:
    """Time a supervisor's looks at ranks that all make progress between two looks, and print the times."""
    print("\nnodes   ranks  CPU seconds  wall seconds  µs per rank  placement.json  a rank's seat")
    for ranks in counts:
        for per_node in (1, 8):
            look = watch(folder / f"watch-{ranks}-{per_node}", ranks // per_node, per_node)
            row = f"{ranks // per_node:5}  {ranks:6}  {look.cpu_seconds:11.3f}  {look.wall_seconds:12.3f}"
            each = look.cpu_seconds / ranks * 1e6
            print(f"{row}  {each:11.1f}  {look.placement_bytes:12,} B  {look.seat_seconds * 1e3:10.1f} ms")


@dataclass(frozen=True)
class Look:
    """What a look of the supervisor costs, and what a rank reads of the placement."""

    cpu_seconds: float
    wall_seconds: float
    placement_bytes: int
    seat_seconds: float


def watch(folder: Path, nodes: int, per_node: int) -> Look:
    """Time looks at a synthetic attempt; the median of five counts."""
    run = RunFolder(folder)
    attempt = run.attempt(1)
    attempt.make_folders()
    processes = tuple(_processes(nodes, per_node, pinned=True))
    placement = Placement(processes, 1)
    placement.write(attempt.placement)
    begin = time.perf_counter()
    Seat.read(attempt.placement, len(processes) - 1)
    seat = time.perf_counter() - begin
    files = [SlotFile(attempt.node_state(node)) for node in range(nodes)] if nodes < 900 else None
    watch, observer, seconds = AttemptWatch(attempt, placement), BeatObserver(), []
    for step in range(5):
        for node in range(nodes):
            here = processes[node * per_node : (node + 1) * per_node]
            file = files[node] if files else SlotFile(attempt.node_state(node))
            file.write(_report(here, step).to_bytes())
            if not files:
                file.close()
        begin, cpu = time.perf_counter(), time.process_time()
        now = time.monotonic()
        beats = observer.observe(watch.beats(), now)
        watch.progress(beats)
        find_stall(beats, {"train": 600.0}, now)
        ended = [record for record in watch.records.values() if record.has_ended]
        seconds.append((time.process_time() - cpu, time.perf_counter() - begin))
        assert len(beats) == len(processes) and not ended
    watch.close()
    work, wall = sorted(seconds)[len(seconds) // 2]
    return Look(work, wall, attempt.placement.stat().st_size, seat)


def _processes(nodes: int, per_node: int, pinned: bool) -> Iterator[Process]:
    for index in range(nodes * per_node):
        node, local = divmod(index, per_node)
        yield Process(index, f"compute-{node:05d}", local, index, 1, (local,) if pinned else (), (), 1)


def _report(here: tuple[Process, ...], step: int) -> NodeReport:
    records = {
        process.first_rank: RankRecord(process.index, process.first_rank, 1, process.node, process.node, (0,), (), 1)
        for process in here
    }
    beats = {
        process.first_rank: Beat("train", step, 1, 1, float(step), float(step), 100, 0.1 + process.index % 7 * 1e-4)
        for process in here
    }
    return NodeReport(here[0].node, records, beats)


if __name__ == "__main__":
    main()
