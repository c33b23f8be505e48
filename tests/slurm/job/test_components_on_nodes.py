"""A data service on CPU nodes beside the ranks, as a heterogeneous job on a real Slurm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.slurm.conftest import Minicluster
from tests.slurm.runs import bash, printed, site, submitted, told, wait_for

from saman.configs.errors import UserError
from saman.configs.loading.clusters import load_cluster
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.slurm.job.allocation import allocation, component_nodes
from saman.slurm.site import client
from saman.slurm.submission import planning
from saman.slurm.submission.arrays import submit_many

HET = {
    "SLURM_JOB_ID": "7", "SLURM_HET_SIZE": "2", "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_JOB_NODELIST_HET_GROUP_0": "n[1-2]", "SLURM_JOB_NODELIST_HET_GROUP_1": "c[5-6]",
    "SLURM_JOB_CPUS_PER_NODE_HET_GROUP_0": "4(x2)", "SLURM_JOB_CPUS_PER_NODE_HET_GROUP_1": "8(x2)",
}  # fmt: skip


def _components(**more: Any) -> list[dict[str, Any]]:
    return [{"name": "data", "program": ["bash", "-c", SERVE], "tasks_per_node": 2, "memory_per_task": "200M", **more}]


SERVE = 'echo "$SAMAN_COMPONENT_TASK for $SAMAN_NODES_OF_RANKS"; touch "up-$SAMAN_COMPONENT_TASK"; exec sleep 600'
RANK = (
    "for i in $(seq 200); do [ -e up-0 ] && [ -e up-1 ] && break; sleep 0.1; done; "
    'ls up-0 up-1; echo "$SAMAN_NODES_OF_DATA"'
)


def test_the_ranks_have_the_first_part_of_the_job_and_components_the_others() -> None:
    here = allocation(HET, 0)
    assert (here.nodes, here.cores) == (("n1", "n2"), (4, 4))
    assert component_nodes(HET) == (("c5", "c6"),)
    assert component_nodes({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1"}) == ()


def test_the_script_describes_every_part_and_the_cheapest_nodes_are_chosen_for_each(tmp_path: Path) -> None:
    gpu = {"name": "gpu", "cores_per_node": 8, "gpus_per_node": 4, "cost_per_node_hour": 8, "qos": "gpu_normal"}
    cpu = {"name": "cpu", "cores_per_node": 8, "qos": "cpu_normal"}
    cluster = validated(
        Cluster, {"name": "x", "partitions": [gpu, cpu], "account": "a", "requeue": {"by": "none"}}, "x"
    )
    spec = bash("het", "true", tmp_path, gpus_per_rank=1, components=_components(nodes=2))
    text = planning.plan(spec, cluster, tmp_path / "runs", environ={}).text
    main, part = text.split("#SBATCH hetjob\n")
    assert "#SBATCH --partition=gpu\n" in main and "--output" in main and "--signal" in main
    assert part.split("set -euo")[0].splitlines() == [
        "#SBATCH --partition=cpu", "#SBATCH --account=a", "#SBATCH --qos=cpu_normal", "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=2", "#SBATCH --cpus-per-task=1", "#SBATCH --mem=400M", "#SBATCH --time=00:05:00",
        "#SBATCH --no-requeue",
    ]  # fmt: skip


def test_a_component_that_fits_nowhere_an_array_and_a_container_are_refused(tmp_path: Path) -> None:
    spec = bash("het", "true", tmp_path, components=_components(nodes=900))
    with pytest.raises(UserError, match="data"):
        planning.plan(spec, site(), tmp_path / "runs", environ={})
    spec = bash("het", "true", tmp_path, components=_components())
    with pytest.raises(UserError, match="container"):
        planning.plan(spec, load_cluster("apptainer-only"), tmp_path / "runs", environ={})
    plan = planning.plan(spec, site(), tmp_path / "runs", environ={})
    with pytest.raises(UserError, match="arrays"):
        submit_many([plan, plan], lambda plan: pytest.fail("made a run"))


@pytest.mark.slurm
def test_a_data_service_runs_beside_the_ranks_and_status_follows_the_job(minicluster: Minicluster) -> None:
    folder = minicluster.shared / "het"
    folder.mkdir()
    spec = bash("het", RANK, folder, nodes=2, components=_components())
    done = submitted(spec, site(), minicluster.shared)
    status = wait_for(done.run)
    assert status.state == "completed", told(done.run)
    attempt = done.run.attempt(1)
    ranks = [printed(done.run, rank).split() for rank in (0, 1)]
    assert [words[:2] for words in ranks] == [["up-0", "up-1"]] * 2
    beside = {words[2] for words in ranks}
    assert len(beside) == 1 and beside.pop().startswith("node")
    said = [attempt.component_log("data", task).read_text() for task in (0, 1)]
    assert [text.split()[0] for text in said] == ["0", "1"] and said[0].split()[2].count("node") == 2
    assert done.job in client.queue()


@pytest.mark.slurm
def test_a_data_service_that_ends_early_fails_the_run_with_its_name(minicluster: Minicluster) -> None:
    components = _components(program=["bash", "-c", "sleep 2; exit 4"])
    spec = bash("het-early", "sleep 60", minicluster.shared, components=components)
    run = submitted(spec, site(), minicluster.shared).run
    status = wait_for(run)
    assert status.state == "failed" and "component data ended" in status.detail, told(run)
