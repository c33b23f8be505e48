"""Every item of the state is in exactly one share, shares are equal in bytes, and small states make few files."""

from __future__ import annotations

import numpy as np
import pytest

from saman.runs.checkpoints.shares import LEAST_BYTES, ArraySize, divide, join, share_of

MIB = 1 << 20
# Mostly one embedding, besides layers of all sizes, in types of 1 to 8 bytes.
SIZES = {
    "embedding": ArraySize(20 * MIB, 4),
    "empty": ArraySize(0, 4),
    "steps": ArraySize(1, 8),
    "flags": ArraySize(3, 1),
    **{
        f"weight/{at:03d}": ArraySize(items, item)
        for at, (items, item) in enumerate([(MIB, 8), (701, 2), (9000, 4)] * 9)
    },
}


@pytest.mark.parametrize("writers", [1, 2, 3, 7, 64, 1000])
def test_every_item_is_in_one_share_and_all_shares_have_the_same_bytes(writers: int) -> None:
    shares = divide(SIZES, writers)
    pieces = sorted((piece.name, piece.start, piece.stop) for share in shares for piece in share)
    for name, size in SIZES.items():
        own = [(start, stop) for owner, start, stop in pieces if owner == name]
        assert own[0][0] == 0 and own[-1][1] == size.items
        assert all(before[1] == after[0] for before, after in zip(own, own[1:], strict=False))
    filled = [sum((piece.stop - piece.start) * SIZES[piece.name].item_bytes for piece in share) for share in shares]
    assert len(shares) <= writers and max(filled) - min(filled) <= 16


def test_all_ranks_compute_the_same_shares_whatever_the_order_of_their_variables() -> None:
    assert divide(SIZES, 4) == divide(dict(reversed(SIZES.items())), 4)


def test_the_number_of_files_is_bounded_by_the_bytes_not_by_the_ranks() -> None:
    total = sum(size.items * size.item_bytes for size in SIZES.values())
    assert len(divide(SIZES, 10_000)) <= total / LEAST_BYTES
    [[piece]] = divide({"w": ArraySize(100, 4)}, 1000)
    assert piece.whole and piece.label == "w" and divide({}, 8) == [[]]


@pytest.mark.parametrize(("processes", "shares"), [(1, 1), (2, 2), (4, 2), (8, 3), (512, 51)])
def test_every_share_has_one_writer_and_the_chief_writes_the_first(processes: int, shares: int) -> None:
    found = [share_of(process, processes, shares) for process in range(processes)]
    assert found[0] == 0
    assert sorted(share for share in found if share is not None) == list(range(shares))
    places = [process for process, share in enumerate(found) if share is not None]
    assert max((b - a for a, b in zip(places, places[1:], strict=False)), default=0) <= -(-processes // shares)


@pytest.mark.parametrize(
    "arrays",
    [
        {"w[0:3]": np.zeros(3)},
        {"w[0:3]": np.zeros(3), "w[4:6]": np.zeros(2)},
        {"w[0:4]": np.zeros(4), "w[3:6]": np.zeros(3)},
        {"w[0:3]": np.zeros(3), "w[3:6]": np.zeros(2)},
        {},
    ],
)
def test_pieces_that_do_not_fit_together_are_no_array(arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="w"):
        join(arrays, {"w": (2, 3)})


def test_names_of_whole_arrays_may_look_like_pieces() -> None:
    assert join({"w[0:3]": np.arange(3)}, {})["w[0:3]"].tolist() == [0, 1, 2]
