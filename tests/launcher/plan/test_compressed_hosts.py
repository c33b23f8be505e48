"""Host lists that saman writes are short, and name what they were made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from saman.launcher.plan.hostlist import compress, expand


@given(st.lists(st.from_regex(r"[a-z]{1,2}([0-9]{0,3}-?[a-z]?){0,2}", fullmatch=True), max_size=12))
def test_a_compressed_list_names_the_same_hosts_in_the_same_order(names: list[str]) -> None:
    assert expand(compress(names)) == names


def test_ten_thousand_nodes_make_a_short_list() -> None:
    racks = [f"rack{rack:02d}-node{node:03d}" for rack in range(25) for node in range(400)]
    assert len(compress(racks)) < 1000
    assert expand(compress(racks)) == racks
    assert compress(["n9", "n10", "n011", "n012"]) == "n[9-10,011-012]"
    assert compress(["node1-ib", "node2-ib"]) == "node1-ib,node2-ib"  # Slurm 22.05 takes no text behind a bracket
