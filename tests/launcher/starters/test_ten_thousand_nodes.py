"""A job of 10,000 nodes can start: the kernel takes its arguments, whatever the names of the nodes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from saman.configs.schemas.experiment import Resources
from saman.launcher.node.horovod_build import HorovodBuild
from saman.launcher.node.machine import Node
from saman.launcher.node.mpi import Flavour, MpiInstallation
from saman.launcher.plan.place import place
from saman.launcher.plan.placement import Placement
from saman.launcher.starters.choose import make_start
from saman.launcher.starters.start import MachineFacts, RankProgram

NODES, RANKS = 10_000, 2
TRUE = "/bin/true"  # stands for each start method: it starts if the kernel takes its arguments
OPEN_MPI = MpiInstallation(Flavour.OPEN_MPI, (4, 1, 8), TRUE)
MPICH = MpiInstallation(Flavour.MPICH, (5, 0, 2), TRUE)
FACTS = MachineFacts(sys.executable, OPEN_MPI, HorovodBuild("openmpi", gloo=True), TRUE, TRUE, in_allocation=True)
JOB = RankProgram(Path("/runs/a/1"), 1, ("python", "train.py"))


def _placement(name: str) -> Placement:
    nodes = [Node(name.format(index), 4) for index in range(NODES)]
    return place(Resources(nodes=NODES, ranks_per_node=RANKS), 1, nodes)


@pytest.mark.parametrize("name", ["cluster-{:05d}", "cluster-{:05d}-ib"])
@pytest.mark.parametrize(
    ("starter", "facts"),
    [
        ("srun", FACTS),
        ("srun", replace(FACTS, pmi="none")),
        ("mpirun", FACTS),
        ("mpirun", replace(FACTS, mpi=MPICH, horovod=HorovodBuild("mpich", gloo=True))),
        ("horovodrun", FACTS),
    ],
)
def test_every_start_method_takes_ten_thousand_nodes(starter: str, facts: MachineFacts, name: str) -> None:
    start = make_start(starter, _placement(name), JOB, facts)
    for command in start.commands:
        assert subprocess.run(command.argv, env=dict(command.environment), check=False).returncode == 0
    for file, text in start.files.items():
        assert str(file) in start.commands[0].argv
        assert len(text.splitlines()) == NODES
    with_list = any(word.startswith("--nodelist=") for word in start.commands[0].argv)
    assert starter != "srun" or with_list == name.endswith("}")
