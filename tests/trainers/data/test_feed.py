"""Any number of ranks gets the same examples in the same micro-batches, and each example once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import UserError

tf = pytest.importorskip("tensorflow")

from saman.trainers.data.feed import Feed, Slice, count  # noqa: E402
from saman.trainers.data.interface import RandomAccess  # noqa: E402
from saman.trainers.data.order import permute  # noqa: E402
from saman.trainers.data.stream import KeptBatches, Stream  # noqa: E402

pytestmark = pytest.mark.tensorflow
EXAMPLES, BATCH = 41, 12
PIPELINE = Feed.batched


STREAM = tf.data.Dataset.from_tensor_slices((np.arange(EXAMPLES), np.arange(EXAMPLES) * 2))
BY_POSITION = RandomAccess(EXAMPLES, lambda positions: (positions, positions * 2))


@pytest.fixture(params=[STREAM, BY_POSITION], ids=["stream", "random access"], autouse=True)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every promise holds for both kinds of data."""
    monkeypatch.setitem(globals(), "SOURCE", request.param)


SOURCE: Any = None


def feed_of(dataset: Any, examples: int, global_batch_size: int, **options: Any) -> Feed:
    """A feed of the first epoch, shuffled and without a map unless ``options`` say otherwise."""
    defaults: dict[str, Any] = {"seed": 5, "epoch": 0, "shuffle": True, "map": None, "maps_batches": False}
    return Feed(
        dataset=dataset, examples=examples, global_batch_size=global_batch_size, where="here", **{**defaults, **options}
    )


def feed(epoch: int = 0, shuffle: bool = True, map: Any = None, maps_batches: bool = False) -> Feed:
    return feed_of(SOURCE, EXAMPLES, BATCH, epoch=epoch, shuffle=shuffle, map=map, maps_batches=maps_batches)


def micro_batches(size: int, per_rank: int, source: Feed, skip: int = 0) -> list[list[list[int]]]:
    """[step][global micro-batch] → examples, as so many ranks cut them."""
    found: list[list[list[int]]] = [[[] for _ in range(size * per_rank)] for _ in range(source.steps - skip)]
    for rank in range(size):
        for step, (inputs, labels) in enumerate(source.batches(Slice(rank, size), skip)):
            assert (np.asarray(labels) == 2 * np.asarray(inputs)).all()
            for index in range(per_rank):
                found[step][rank + size * index] = np.asarray(inputs)[index::per_rank].tolist()
    return found


def test_no_tuner_delays_the_end_of_an_iterator_over_saman_own_readers() -> None:
    """A dataset of the user's may rely on tf.data's tuner; then the end of its iterator may take seconds."""
    own = isinstance(SOURCE, RandomAccess)
    for dataset in (feed().full_batches(Slice(0, 1)), feed().batched(Slice(0, 1))):
        assert dataset.options().autotune.enabled is not own
    if own:
        assert feed().pipeline()(*(tf.constant(n, tf.int64) for n in (0, 1, 0))).options().autotune.enabled is False


@pytest.mark.parametrize("size", [2, 3, 4, 6])
def test_any_number_of_ranks_cuts_the_same_micro_batches(size: int) -> None:
    assert micro_batches(size, 12 // size, feed()) == micro_batches(1, 12, feed())


def test_an_epoch_holds_each_example_once_and_a_short_last_batch_is_spread_evenly() -> None:
    steps = micro_batches(4, 1, feed())
    assert sorted(sum((part for step in steps for part in step), [])) == list(range(EXAMPLES))
    assert [len(part) for part in steps[-1]] == [2, 1, 1, 1]
    assert [len(part) for part in micro_batches(12, 1, feed())[-1]] == [1] * 5 + [0] * 7


def test_the_order_depends_on_the_epoch_and_going_on_in_the_middle_keeps_it() -> None:
    assert micro_batches(1, 1, feed(0)) != micro_batches(1, 1, feed(1))
    assert micro_batches(2, 1, feed(1), skip=2) == micro_batches(2, 1, feed(1))[2:]
    assert micro_batches(1, 1, feed(shuffle=False))[0][0] == list(range(BATCH))


@pytest.mark.parametrize("maps_batches", [False, True])
def test_an_example_gets_the_same_seed_on_whatever_rank_it_lands(maps_batches: bool) -> None:
    def noisy(value: Any, label: Any, seed: Any) -> Any:
        drawn = tf.cast(tf.reduce_sum(seed, -1), tf.int64)
        return value + 0 * drawn, tf.stack([tf.cast(label, tf.int64), drawn], -1)

    def seeds(size: int, epoch: int) -> dict[int, int]:
        source = feed(epoch, map=noisy, maps_batches=maps_batches)
        parts = [batch for rank in range(size) for batch in source.batches(Slice(rank, size), skip=1)]
        labels = np.concatenate([np.asarray(part[1]) for part in parts])
        return {int(label): int(seed) for label, seed in labels}

    assert seeds(1, 0) == seeds(3, 0)
    assert seeds(1, 0) != seeds(1, 1)
    assert len(set(seeds(1, 0).values())) == EXAMPLES - BATCH


def test_lengths_are_known_or_counted_and_endless_data_are_refused() -> None:
    numbers = tf.data.Dataset.range(7)
    assert count(numbers, "x") == (7, False)
    assert count(numbers.filter(lambda number: number > 2), "x") == (4, True)
    for wrong, problem in [(numbers.repeat(), "endless"), (numbers.take(0), "empty"), ([1], "neither a tf.data")]:
        with pytest.raises(UserError, match=problem):
            count(wrong, "x")


def test_examples_that_are_no_pairs_are_refused() -> None:
    single = feed_of(tf.data.Dataset.range(7), 7, 2)
    with pytest.raises(UserError, match="pairs"):
        single.batched(Slice(0, 1))


def test_a_rank_reads_its_own_examples_and_no_others() -> None:
    read: list[int] = []

    def note(positions: np.ndarray) -> np.ndarray:
        read.extend(positions.tolist())
        return positions

    def reader(positions: Any) -> Any:
        values = tf.ensure_shape(tf.numpy_function(note, [positions], tf.int64), [None])
        return values, values

    source = RandomAccess(1_000_000, reader)
    batches = feed_of(source, 1_000_000, 4096).batches(Slice(3, 1024), skip=100)
    own = [np.asarray(next(batches)[0]).tolist() for _ in range(5)]
    batches.close()
    assert all(len(batch) == 4 for batch in own)
    assert len(read) <= 4 * 16, "a few batches are read ahead, and nothing of other ranks"


@pytest.mark.parametrize("examples", [1, 2, 7, 1000, 99_991])
def test_an_epoch_is_a_permutation(examples: int) -> None:
    order = np.asarray(permute(tf.range(examples, dtype=tf.int64), examples, seed=3, epoch=4))
    assert sorted(order.tolist()) == list(range(examples))


def test_neighbours_in_an_epoch_are_independent_examples() -> None:
    """With few rounds, batches of data that are sorted by class hold classes unevenly."""
    examples, batch = 1_000_000, 64
    order = np.asarray(permute(tf.range(batch * 4000, dtype=tf.int64), examples, seed=5, epoch=0)).astype(float)
    for lag in (1, 2, 4, 64, 128):
        assert abs(np.corrcoef(order[:-lag], order[lag:])[0, 1]) < 5 / np.sqrt(len(order))
    in_first_half = (order < examples / 2).reshape(-1, batch).mean(1)
    assert 0.95 < in_first_half.std() / (0.5 / np.sqrt(batch)) < 1.05


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "elastic"])
@pytest.mark.parametrize("size", [5, 7])
def test_a_number_of_ranks_that_does_not_divide_the_batch_shares_it_too(size: int, fixed: bool) -> None:
    whole = [sorted(step[0]) for step in micro_batches(1, 1, feed())]
    parts = [Slice(rank, size, fixed=fixed) for rank in range(size)]
    for skip in (0, 1):
        steps = zip(*(feed().batches(part, skip) for part in parts), strict=True)
        together = [sorted(sum((np.asarray(inputs).tolist() for inputs, _ in step), [])) for step in steps]
        assert together == whole[skip:]
    streams = [iter(feed().full_batches(part)) for part in parts]
    for expected in whole[: feed().full_steps]:
        assert sorted(sum((np.asarray(next(stream)[0]).tolist() for stream in streams), [])) == expected


def doubled(inputs: Any, labels: Any) -> Any:
    return inputs + inputs, labels


def blurred(inputs: Any, labels: Any, seed: Any) -> Any:
    return inputs + tf.reduce_sum(tf.cast(seed, inputs.dtype), axis=-1), labels


@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
@pytest.mark.parametrize("batched", [True, False, None], ids=["batch map", "example map", "no map"])
def test_reading_without_a_pipeline_gives_the_batches_of_the_only_slice(batched: bool | None, shuffle: bool) -> None:
    given = feed(epoch=1, shuffle=shuffle, map=None if batched is None else blurred, maps_batches=bool(batched))
    for read, expected in zip(given.whole_batches(), given.batches(Slice(0, 1)), strict=True):
        assert all((np.asarray(here) == np.asarray(there)).all() for here, there in zip(read, expected, strict=True))


@pytest.mark.parametrize("batched", [True, False, None], ids=["batch map", "example map", "no map"])
def test_a_slice_that_changes_goes_on_with_the_same_examples_and_traces_nothing_anew(batched: bool | None) -> None:
    given = feed(map=None if batched is None else doubled, maps_batches=bool(batched))
    stream = Stream([Slice(0, 2, fixed=False)])
    traced: list[Any] = []
    for step, (index, size) in enumerate([(0, 2), (1, 3), (4, 5)]):
        stream.regroup([Slice(index, size, fixed=False)])
        read = next(stream.iterators(given, step)[0])
        expected = next(iter(given.batched(Slice(index, size), step)))
        assert all((np.asarray(here) == np.asarray(there)).all() for here, there in zip(read, expected, strict=True))
        traced.append(stream._pipeline and stream._pipeline.experimental_get_tracing_count())  # type: ignore[attr-defined]
    assert traced == ([1, 1, 1] if given.is_endless else [None] * 3)


def weighed(inputs: Any, labels: Any) -> Any:
    return inputs, labels, tf.cast(inputs + labels, tf.float32)


@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
@pytest.mark.parametrize("batched", [True, False, None], ids=["batch map", "example map", "no map"])
def test_the_short_last_batch_is_that_of_a_pipeline_and_makes_none(
    monkeypatch: pytest.MonkeyPatch, batched: bool | None, shuffle: bool
) -> None:
    parts = [Slice(rank, 7) for rank in range(7)]  # of five examples: the last two slices have none
    kept, pipelines = KeptBatches(parts), list[Slice]()
    for epoch in range(3):
        given = feed(epoch=epoch, shuffle=shuffle, map=None if batched is None else blurred, maps_batches=bool(batched))
        given = replace(given, weigh=weighed)
        expected = [next(given.batches(part, given.full_steps)) for part in parts]
        with monkeypatch.context() as patch:
            patch.setattr(
                Feed, "batched", lambda feed, part, skip=0: pipelines.append(part) or PIPELINE(feed, part, skip)
            )
            [*rests] = [[*rest] for rest in kept.until_end(given, given.full_steps)]
        for [read], batch in zip(rests, expected, strict=True):
            assert [tensor.dtype for tensor in read] == [tensor.dtype for tensor in batch]
            assert all((np.asarray(here) == np.asarray(there)).all() for here, there in zip(read, batch, strict=True))
            assert [tensor.shape for tensor in read] == [tensor.shape for tensor in batch]
    assert bool(pipelines) is not (isinstance(SOURCE, RandomAccess) and batched is not False)


@pytest.mark.parametrize("seeded", [True, False], ids=["seeded map", "plain map"])
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
def test_equal_epochs_are_read_through_one_pipeline_and_others_through_their_own(
    monkeypatch: pytest.MonkeyPatch, seeded: bool, shuffle: bool
) -> None:
    kept, pipelines = KeptBatches([Slice(1, 3)]), list[Slice]()
    for epoch in (0, 1, 1, 2):
        given = feed(epoch=epoch, shuffle=shuffle, map=blurred if seeded else doubled)
        expected = [*given.batches(Slice(1, 3))]
        with monkeypatch.context() as patch:
            patch.setattr(
                Feed, "batched", lambda feed, part, skip=0: pipelines.append(part) or PIPELINE(feed, part, skip)
            )
            read = [*kept.until_end(given, 0)[0]]
        assert all(map(np.array_equal, sum(map(list, read), []), sum(map(list, expected), [])))
        assert len(read) == len(expected) == given.steps
    equal_ones = 1 if isinstance(SOURCE, RandomAccess) else 3
    assert len(pipelines) == (4 if seeded or shuffle else equal_ones)
