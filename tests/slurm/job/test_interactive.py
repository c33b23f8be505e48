"""``saman run`` inside ``salloc`` uses the nodes of the allocation."""

from __future__ import annotations

import sys

import pytest
from tests.slurm.conftest import Minicluster

from saman.launcher.planning import Options
from saman.launcher.programs import script_from_command
from saman.slurm.job.interactive import gpus_of_job, gpus_per_node, nodes_of_allocation, with_allocation

SALLOC = {
    "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_JOB_CPUS_PER_NODE": "4(x2)", "SLURM_GPUS_ON_NODE": "2",
}  # fmt: skip


def test_an_allocation_is_read_from_slurms_variables() -> None:
    nodes = nodes_of_allocation(SALLOC, host="login1")
    assert [(node.name, node.cores, node.gpus, node.pinnable) for node in nodes] == [
        ("n1", 4, 2, False), ("n2", 4, 2, False),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "gpus"),
    [({"SLURM_GPUS_PER_NODE": "a100:4"}, 4), ({"SLURM_JOB_GPUS": "0,1"}, 2), ({"SLURM_GPUS_ON_NODE": "8"}, 8)],
)
def test_the_gpus_of_a_node_are_found(environ: dict[str, str], gpus: int) -> None:
    assert gpus_per_node(environ) == gpus
    assert gpus_of_job({"TRES": "cpu=8,mem=1G,node=2,gres/gpu=4", "NumNodes": "2"}) == 2


@pytest.mark.parametrize(("ranks", "nodes", "per_node"), [(8, 2, 4), (3, 1, 3), (None, 1, 1)])
def test_ranks_are_spread_over_the_nodes_of_the_allocation(ranks: int | None, nodes: int, per_node: int) -> None:
    spec = script_from_command(["true"], ranks=ranks)
    what, options = with_allocation(spec, Options(), ranks, SALLOC)
    assert (what.resources.nodes, what.resources.ranks_per_node) == (nodes, per_node)  # type: ignore[union-attr]
    assert options.nodes is not None and len(options.nodes) == 2
    assert with_allocation(spec, Options(), ranks, {}) == (spec, Options())


@pytest.mark.slurm
def test_saman_run_inside_salloc_starts_the_ranks_on_its_nodes(minicluster: Minicluster) -> None:
    runs = minicluster.shared / "interactive"
    salloc = ["salloc", "--quiet", "--account=test", "--partition=main", "--nodes=2", "--ntasks-per-node=1"]
    run = [sys.executable, "-m", "saman", "run", "-np", "2", "--all-ranks", "--runs-dir", str(runs)]
    said = minicluster.run(*salloc, *run, "--", "bash", "-c", "echo rank $SAMAN_FIRST_RANK on $SLURMD_NODENAME").stdout
    assert "rank 0 on node" in said and "rank 1 on node" in said
    assert len({word for word in said.split() if word in ("node1", "node2", "node3", "node4")}) == 2
