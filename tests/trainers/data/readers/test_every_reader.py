"""Every reader keeps the contract: the same steps on any number of ranks, each example once, resume at any batch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.configs.schemas.data.section import Data
from saman.trainers import Context, Splits

pytest.importorskip("tensorflow")
sys.path.append(str(Path(__file__).parent))

from data_sets import EXAMPLES, FORMATS

from saman.trainers.data import sources
from saman.trainers.data.feed import Feed, Slice

pytestmark = pytest.mark.tensorflow
BATCH = 12
ALL = [(number, 2 * number, number % 7) for number in range(EXAMPLES)]


@pytest.fixture(scope="module", params=sorted(FORMATS))
def split_source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Opens the data set of a format, with the keys of ``data`` that a test adds."""
    folder = tmp_path_factory.mktemp(request.param)
    source, args = FORMATS[request.param](folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAMAN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))

        def opened(**keys: Any) -> Splits:
            data = Data.model_validate({"source": source, "args": args, "validation_fraction": 0, **keys})
            return sources.load(data, Context(seed=7, epoch=0, rank=0, size=1))

        yield opened


def feed_of(splits: Splits, part: Any, epoch: int = 0, shuffle: bool = True) -> Feed:
    return Feed(
        dataset=part, examples=part.examples, global_batch_size=BATCH, seed=7, epoch=epoch, shuffle=shuffle,
        map=splits.map, maps_batches=splits.maps_batches, where="here",
    )  # fmt: skip


def rows_of(batch: Any) -> list[tuple[int, int, int]]:
    inputs = np.asarray(batch[0]).reshape(len(batch[1]), 2)
    return [(int(a), int(b), int(label)) for (a, b), label in zip(inputs, np.asarray(batch[1]), strict=True)]


def steps_of(feed: Feed, ranks: int, skip: int = 0) -> list[list[tuple[int, int, int]]]:
    """The examples of each step, the position in the global batch in order, as so many ranks read them."""
    found: list[Any] = [[None] * BATCH for _ in range(feed.steps - skip)]
    for rank in range(ranks):
        for step, batch in enumerate(feed.batches(Slice(rank, ranks), skip)):
            rows = rows_of(batch)
            found[step][rank : rank + ranks * len(rows) : ranks] = rows
    return [[row for row in step if row is not None] for step in found]


def full_steps_of(feed: Feed, ranks: int, skip: int, count: int) -> list[list[tuple[int, int, int]]]:
    """The same from the streams that a graph reads by itself, on into the next epochs."""
    streams = [iter(feed.full_batches(Slice(rank, ranks), skip)) for rank in range(ranks)]
    found = []
    for _ in range(count):
        parts = [rows_of(next(stream)) for stream in streams]
        found.append([row for group in zip(*parts, strict=True) for row in group])
    return found


def test_one_two_and_three_ranks_read_the_same_examples_in_the_same_order(split_source: Any) -> None:
    splits = split_source()
    epochs = [steps_of(feed_of(splits, splits.train, epoch), 1) for epoch in (0, 1)]
    assert [sorted(sum(epoch, [])) for epoch in epochs] == [ALL, ALL], "each example once per epoch"
    assert epochs[0] != epochs[1]
    assert sum(steps_of(feed_of(splits, splits.train, shuffle=False), 3), []) != sum(epochs[0], [])
    for ranks in (2, 3):
        assert steps_of(feed_of(splits, splits.train), ranks) == epochs[0]
    # A resume at any batch, in single steps and in the stream that runs on into the next epoch.
    assert steps_of(feed_of(splits, splits.train, 1), 2, skip=2) == epochs[1][2:]
    assert full_steps_of(feed_of(splits, splits.train), 3, skip=1, count=4) == [*epochs[0][1:3], *epochs[1][:2]]


def test_held_out_examples_are_disjoint_and_folds_cover_everything_but_the_test_examples(split_source: Any) -> None:
    folds = [split_source(folds=3, fold=fold, test_fraction=0.2) for fold in range(3)]
    held = []
    for splits in folds:
        train, validation, test = (
            sum(steps_of(feed_of(splits, part, shuffle=False), 1), [])
            for part in (splits.train, splits.validation, splits.test)
        )
        assert sorted([*train, *validation, *test]) == ALL
        held.append((validation, test))
    assert len({tuple(test) for _, test in held}) == 1 and len(held[0][1]) == 8
    assert sorted(sum((validation for validation, _ in held), [])) == sorted(set(ALL) - set(held[0][1]))
