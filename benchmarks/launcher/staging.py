"""Opens on the shared file system per node, with and without `environment: {stage: node}`: counted with strace.

    python benchmarks/launcher/staging.py [--short] [--ranks 2] [--keep]

Trains the quickstart (TensorFlow, Horovod over MPI) on two nodes of a minicluster of its own. strace follows the
slurmd of each node and counts successful opens below the environment, the Python it is made from, saman's source, the
cache, the run folder and the data. The first node also runs the job's supervisor, one per job whatever its size. A
third run finds the copies of the second (`staging.after_job: keep`). Needs strace and Slurm. --short leaves out the
third run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import saman
from saman.slurm import minicluster

NODES = ("node1", "node2")
SOURCE = Path(saman.__file__).resolve().parents[2]
OPEN = re.compile(r'(?:open|openat|openat2)\((?:AT_FDCWD|\d+)?(?:<[^>]*>)?,? ?"([^"]+)".*\) = \d')
CLUSTER = """
name: mini
account: test
partitions: [{name: main, cores_per_node: 4, memory_per_node: 4G, max_nodes: 4, max_time: "01:00:00"}]
mpi: {start: srun, pmi: pmix}
environment: {OMPI_MCA_mpi_yield_when_idle: "1", %s}
data: {stage: %s}
staging: {folder: %s, after_job: %s}
"""


def shared(folder: Path) -> tuple[str, ...]:
    """The folders that stand for the shared file system."""
    places = {Path(sys.prefix), Path(sys.base_prefix), SOURCE, folder}
    return tuple(f"{place}/" for place in places)


def slurmd(root: Path, node: str) -> int:
    """The process id of a node's slurmd."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if words[:1] and words[0].endswith("slurmd") and node in words and any(str(root) in word for word in words):
                return int(entry.name)
    sys.exit(f"no slurmd of {node}")


def run(name: str, folder: Path, root: Path, stage: str, after_job: str, ranks: int) -> dict[str, object]:
    """Submit the quickstart, trace both nodes, and return what they opened."""
    (folder / f"{name}.yaml").write_text(
        CLUSTER % (f"stage: {stage}", stage, folder.with_name(f"{folder.name}-local"), after_job)
    )
    traces = {node: folder / f"{name}-{node}.strace" for node in NODES}
    tracers = [
        subprocess.Popen(
            ["strace", "-f", "-qq", "-s", "400", "-e", "trace=open,openat,openat2", "-o", str(file), "-p", str(pid)]
        )
        for node, file in traces.items()
        for pid in [slurmd(root, node)]
    ]
    time.sleep(1)
    began = time.perf_counter()
    settings = [
        "publish=null",
        "train.epochs=1",
        "resources.nodes=2",
        f"resources.ranks_per_node={ranks}",
        "resources.cpus_per_rank=1",
        "resources.memory_per_rank=1500M",
        f"train.global_batch_size={32 * ranks}",
        "data.source=fashion_mnist",
        f'data.args={{"folder": "{folder / "data"}"}}',
    ]
    command = [sys.executable, "-m", "saman", "submit", "quickstart", "-c", f"./{name}.yaml", *settings]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    waited = [sys.executable, "-m", "saman", "wait", "last", "--timeout", "280", "--json"]
    done = subprocess.run(waited, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - began
    for tracer in tracers:
        tracer.send_signal(signal.SIGINT)
        tracer.wait()
    status = json.loads(done.stdout)[0]
    if status["state"] != "completed":
        sys.exit(f"{name}: {status}")
    places = shared(folder)
    counts = {node: opens(file, places) for node, file in traces.items()}
    return {"run": name, "seconds": round(seconds), **{node: sum(count.values()) for node, count in counts.items()},
            "by": {node: dict(count.most_common(4)) for node, count in counts.items()}}  # fmt: skip


def opens(trace: Path, places: tuple[str, ...]) -> Counter[str]:
    """Successful opens below the shared folders, by folder."""
    found: Counter[str] = Counter()
    with trace.open(errors="replace") as lines:
        for line in lines:
            match = OPEN.search(line)
            if match is not None:
                place = next((place for place in places if match[1].startswith(place)), None)
                if place is not None and not match[1].endswith(".strace"):
                    found[place] += 1
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--ranks", type=int, default=2, help="ranks per node")
    parser.add_argument(
        "--data", type=Path, default=os.environ.get("SAMAN_FASHION_MNIST"), help="folder with IDX files"
    )
    parser.add_argument("--keep", action="store_true", help="leave traces and runs")
    asked = parser.parse_args()
    if asked.data is None:
        sys.exit("name a folder of Fashion-MNIST with --data or SAMAN_FASHION_MNIST")
    folder, root = (Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp")) for prefix in ("saman-st-", "saman-mc-"))
    shutil.copytree(asked.data, folder / "data")
    os.environ["SAMAN_CACHE_DIR"] = str(folder / "cache")
    try:
        minicluster.up(len(NODES), root)
        os.environ.update(minicluster.environment(root))
        rows = [run("shared", folder, root, "none", "remove", asked.ranks)]
        rows.append(run("staged", folder, root, "node", "keep", asked.ranks))
        if not asked.short:
            rows.append(run("again", folder, root, "node", "remove", asked.ranks))
    finally:
        minicluster.down(root)
        if not asked.keep:
            shutil.rmtree(folder)
        shutil.rmtree(folder.with_name(f"{folder.name}-local"), ignore_errors=True)
        shutil.rmtree(root, ignore_errors=True)
    print("| run | seconds | opens, node with the supervisor | other node | other node, by folder |")
    print(f"|{'---|' * 5}")
    for row in rows:
        print(f"| {row['run']} | {row['seconds']} | {row['node1']:,} | {row['node2']:,} | {row['by']['node2']} |")  # type: ignore[index,call-overload]
    print(f"other node: {rows[0]['node2'] / max(1, rows[1]['node2']):.0f} times fewer")  # type: ignore[operator,call-overload]


if __name__ == "__main__":
    main()
