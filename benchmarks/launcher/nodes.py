"""What a job costs by its nodes: plan and record it, its longest argument, what a rank reads; one table.

    python benchmarks/launcher/nodes.py [--short]

8 ranks per node, started by srun. The longest argument must stay below the kernel's 131,071 bytes; a stub stands for
srun and is really started with the arguments. A rank's time is that to read the placement.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from saman.configs.schemas.experiment import Resources
from saman.launcher.node.machine import Node
from saman.launcher.plan.place import place
from saman.launcher.plan.placement import Placement
from saman.launcher.starters.choose import make_start
from saman.launcher.starters.start import MachineFacts, RankProgram

RANKS = 8


def measure(nodes: int, folder: Path) -> str:
    """A row of the table."""
    names = [Node(f"cluster-{index:05d}", 64) for index in range(nodes)]
    facts = MachineFacts(sys.executable, srun="/bin/true", in_allocation=True, pmi="none")
    began = time.process_time()
    placement = place(Resources(nodes=nodes, ranks_per_node=RANKS), 1, names)
    start = make_start("srun", placement, RankProgram(folder, 1, ("python", "train.py")), facts)
    file = folder / "placement.json"
    placement.write(file)
    planned = time.process_time() - began
    began = time.process_time()
    assert Placement.read(file) == placement
    read = time.process_time() - began
    argv = start.commands[0].argv
    starts = subprocess.run(argv, env={}, check=False).returncode == 0
    longest = max(len(word) for word in argv)
    return f"| {nodes:,} | {planned:.2f} s | {file.stat().st_size:,} B | {read:.2f} s | {longest:,} B | {starts} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="the same: it takes seconds")
    parser.parse_args()
    print("| nodes | plan and record | placement.json | a rank reads it in | longest argument | starts |")
    print(f"|{'---|' * 6}")
    with tempfile.TemporaryDirectory(prefix="saman-nodes-") as folder:
        for nodes in (100, 1000, 3000, 10_000):
            print(measure(nodes, Path(folder)))


if __name__ == "__main__":
    main()
