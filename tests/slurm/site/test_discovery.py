"""`saman clusters init` writes a cluster file that loads."""

from __future__ import annotations

from saman.configs import yaml12
from saman.configs.problems import validated
from saman.configs.schemas.cluster import Cluster
from saman.slurm.site.client import Answer, fields_of
from saman.slurm.site.discovery import cluster_yaml, describe
from saman.slurm.site.user_limits import UserLimits


def test_a_first_cluster_file_is_one_that_loads() -> None:
    nodes = ["gpu|64|512000|10|gpu:a100:4(S:0-1)", "gpu|128|1024000|2|gpu:a100:8", "cpu|48|190000+|100|(null)"]
    shown = [fields_of("PartitionName=gpu MaxNodes=4 MaxTime=1-00:00:00 OverSubscribe=EXCLUSIVE")]
    mpi = Answer(0, "MPI plugin types are...\n\tpmix\n\tpmi2\n", "")
    site = describe("Alps", nodes, shown, UserLimits("phys", ("normal",), (), True), mpi)
    loaded = validated(Cluster, yaml12.parse(cluster_yaml(site), "x"), "x")
    gpu, cpu = loaded.partitions
    assert (gpu.cores_per_node, gpu.gpus_per_node, gpu.gpu_type, gpu.max_nodes) == (64, 4, "a100", 4)
    assert gpu.whole_nodes and gpu.max_time == "1-00:00:00" and loaded.mpi.pmi == "pmix"
    assert (cpu.cores_per_node, cpu.gpus_per_node, cpu.max_nodes) == (48, 0, 100)


def test_a_partition_of_unequal_nodes_offers_what_the_smallest_has() -> None:
    nodes = ["mixed|64|512000|2|gpu:4", "mixed|32|256000|3|gpu:2", "bare|8|1|1|(null)"]
    site = describe("alps", nodes, [], UserLimits(None, (), (), True), Answer(0, "pmi2", ""))
    mixed, bare = site.partitions
    assert (mixed.cores_per_node, mixed.memory_per_node, mixed.gpus_per_node) == (32, "256000M", 2)
    assert (mixed.max_nodes, mixed.max_time, mixed.whole_nodes) == (5, None, None)
    assert (bare.memory_per_node, bare.gpus_per_node, bare.gpu_type) == (None, None, None)
    assert "memory_per_node" not in bare.to_yaml() and "gpu_type" not in bare.to_yaml()


def test_of_several_gpu_types_in_a_partition_the_most_frequent_counts_and_the_file_says_so() -> None:
    nodes = ["gpu|64|512000|2|gpu:h100:8", "gpu|32|256000|9|gpu:a100:4(S:0-1)", "both|16|1000|1|gpu:t4:1,gpu:l4:2"]
    site = describe("alps", nodes, [], UserLimits(None, (), (), True), Answer(0, "pmix", ""))
    gpu, both = site.partitions
    assert (gpu.gpu_type, gpu.gpus_per_node, gpu.cores_per_node, gpu.max_nodes) == ("a100", 4, 32, 9)
    assert (both.gpu_type, both.gpus_per_node) == ("t4", 1)
    assert "partition gpu: it has a100 on 9 nodes, h100 on 2 nodes; this file requests a100" in cluster_yaml(site)
