"""Preflight names the nodes that are slower than the others."""

from __future__ import annotations

from saman.runs.records.preflight import RankMeasurement
from saman.slurm.preflight import exclude_option, find_outliers, node_values


def rank(node: str, seconds: float) -> RankMeasurement:
    """A rank's file, read back."""
    return RankMeasurement.from_json({"node": node, "matmul_seconds": seconds, "clock_offset_seconds": 0.0001})


def test_a_slow_node_stands_out_and_a_noisy_one_does_not() -> None:
    sound = [rank(f"n{number}", 0.010 + 0.0001 * number) for number in range(6)]
    assert find_outliers(node_values(sound)) == [] and exclude_option([]) is None
    found = find_outliers(node_values([*sound, rank("n9", 0.020)]))
    assert [outlier.node for outlier in found] == ["n9"] and exclude_option(found) == "--exclude n9"


def test_the_bandwidth_of_the_largest_message_counts_in_the_unit_of_its_heading() -> None:
    found = RankMeasurement.from_json({"node": "n1", "bus_bytes_per_second": {"1048576": 1e9, "16777216": 4e9}})
    assert node_values([found]) == {"n1": {"bus_bytes_per_second": 4.0}}
