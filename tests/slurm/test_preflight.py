"""Preflight names the nodes that are slower than the others."""

from __future__ import annotations

from typing import Any

from saman.slurm.preflight import by_node, odd_ones, option


def test_a_slow_node_stands_out_and_a_noisy_one_does_not() -> None:
    def rank(node: str, seconds: float) -> dict[str, Any]:
        return {"node": node, "matmul_seconds": seconds, "clock_offset_seconds": 0.0001}

    sound = [rank(f"n{number}", 0.010 + 0.0001 * number) for number in range(6)]
    assert odd_ones(by_node(sound)) == []
    found = odd_ones(by_node([*sound, rank("n9", 0.020)]))
    assert [one.node for one in found] == ["n9"] and option(found) == "--exclude n9"
