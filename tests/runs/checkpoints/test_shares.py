"""Every array is in exactly one share, shares are about equal, and small states make few files."""

from __future__ import annotations

import pytest

from saman.runs.checkpoints.shares import LEAST_BYTES, share_names, share_of

MIB = 1 << 20
# The weights of ResNet-50's blocks, roughly, with a slot of an optimiser each.
SIZES = {f"{kind}/{at:03d}": size for kind in ("weight", "slot") for at, size in enumerate([9 * MIB, 4 * MIB, 700] * 9)}


@pytest.mark.parametrize("writers", [1, 2, 3, 7, 64, 1000])
def test_every_array_is_in_one_share_and_no_share_is_far_above_the_mean(writers: int) -> None:
    shares = share_names(SIZES, writers)
    assert sorted(name for share in shares for name in share) == sorted(SIZES)
    filled = [sum(SIZES[name] for name in share) for share in shares]
    best = max(sum(SIZES.values()) / len(shares), max(SIZES.values()))
    assert len(shares) <= writers and max(filled) <= 4 / 3 * best


def test_all_ranks_compute_the_same_shares_whatever_the_order_of_their_variables() -> None:
    assert share_names(SIZES, 4) == share_names(dict(reversed(SIZES.items())), 4)


def test_the_number_of_files_is_bounded_by_the_bytes_not_by_the_ranks() -> None:
    assert len(share_names(SIZES, 10_000)) <= sum(SIZES.values()) / LEAST_BYTES
    assert share_names({"w": 100}, 1000) == [["w"]] and share_names({}, 8) == [[]]


@pytest.mark.parametrize(("processes", "shares"), [(1, 1), (2, 2), (4, 2), (8, 3), (512, 51)])
def test_every_share_has_one_writer_and_the_chief_writes_the_first(processes: int, shares: int) -> None:
    found = [share_of(process, processes, shares) for process in range(processes)]
    assert found[0] == 0
    assert sorted(share for share in found if share is not None) == list(range(shares))
    places = [process for process, share in enumerate(found) if share is not None]
    assert max((b - a for a, b in zip(places, places[1:], strict=False)), default=0) <= -(-processes // shares)
