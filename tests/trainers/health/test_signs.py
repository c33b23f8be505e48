"""What steps carry through the exchange tells every rank the same: who has a bad gradient, whether weights differ."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tensorflow")

from saman.trainers.health.judgement import DifferentWeights, Judge
from saman.trainers.health.response import Response
from saman.trainers.health.signs import COMPARED, DIFFERS, FLAG, Signs, checksum, first_not_finite
from saman.trainers.keras_compat import tf

pytestmark = pytest.mark.tensorflow

GOOD = [np.array([1.0, -2.0], "f4"), np.ones((3, 3), "f4"), np.array(1e30, "f4")]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_first_variable_that_is_not_finite_is_found(bad: float, place: int) -> None:
    values = [value.copy() for value in GOOD]
    for later in values[place:]:
        later.reshape(-1)[-1:] = bad
    assert int(first_not_finite([tf.constant(value) for value in values])) == place + 1
    assert int(first_not_finite([tf.constant(value) for value in GOOD])) == 0
    assert int(first_not_finite([])) == 0
    assert int(first_not_finite([tf.constant(1e300, tf.float64)])) == 0  # more than float32 holds


def test_opposite_infinities_do_not_cancel() -> None:
    assert int(first_not_finite([tf.constant([np.inf, -np.inf])])) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_every_changed_bit_of_any_weight_changes_the_checksum(dtype: str) -> None:
    rng = np.random.default_rng(1)
    kind = tf.as_dtype(dtype)
    weights = [tf.cast(rng.normal(size=size), kind).numpy() for size in ((1, 3), ())]
    compute = tf.function(lambda *values: checksum(values), autograph=False)
    usual = int(compute(*map(tf.constant, weights)))
    for number, weight in enumerate(weights):
        for bit in range(weight.nbytes * 8):
            raw = bytearray(weight.tobytes())
            raw[bit // 8] ^= 1 << bit % 8
            changed = np.frombuffer(bytes(raw), weight.dtype).reshape(weight.shape)
            others = [tf.constant(changed if each == number else value) for each, value in enumerate(weights)]
            assert int(compute(*others)) != usual


def rows(weights: list[np.ndarray], step: int = 0, every: int = 4, most: int = 0) -> list[np.ndarray]:
    """The row of signs of each rank, whose exchange is a sum in float32; ``most`` ranks may take a step together."""
    signs = Signs(max(most, len(weights)), every)
    of = {
        value.tobytes(): signs.own([tf.constant(GOOD[0])], None, tf.constant(step, tf.int64), [tf.constant(value)])
        for value in {value.tobytes(): value for value in weights}.values()
    }
    own = [of[value.tobytes()] for value in weights]
    total = np.sum([np.asarray(flags) for flags, _ in own], axis=0, dtype="f4")
    return [np.asarray(signs.row(tf.constant(total), mine, tf.constant(len(weights)))) for _, mine in (own[0], own[-1])]


@pytest.mark.parametrize("size", [2, 3, 8, 500, 3000])
def test_all_ranks_see_that_the_lowest_bit_of_a_rank_differs(size: int) -> None:
    weights = [np.linspace(0, 1, 9, dtype="f4")] * size
    assert {row[DIFFERS] for row in rows(weights)} == {0.0}
    changed = weights[0].copy()
    changed[4] = np.nextafter(changed[4], np.float32(1))
    assert {row[DIFFERS] for row in rows([*weights[:-1], changed])} == {1.0}
    assert {row[DIFFERS] for row in rows([*weights[:-1], changed], step=3)} == {0.0}  # not a step that compares


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_a_smaller_world_of_an_elastic_run_is_compared_too(size: int) -> None:
    weights = [np.linspace(0, 1, 9, dtype="f4")] * size
    assert {row[DIFFERS] for row in rows(weights, most=9)} == {0.0}
    changed = np.nextafter(weights[0], np.float32(2))
    assert {row[DIFFERS] for row in rows([*weights, changed], most=9)} == {1.0}


class Ranks:
    """A strategy for the threads of a test would be a network; here the ranks' tables are known beforehand."""

    def __init__(self, rank: int, tables: list[np.ndarray]) -> None:
        self.ranks, self.size, self._tables = (rank,), len(tables), tables

    def total(self, values: np.ndarray) -> np.ndarray:
        table = np.zeros((self.size, len(values) // self.size))
        for rank, row in enumerate(self._tables):
            table[rank] = row[: table.shape[1]]
        return table.reshape(-1)


@pytest.mark.parametrize(("odd", "named"), [([2], (2,)), ([1, 3], (1, 3)), ([], None)])
def test_the_ranks_that_differ_from_the_majority_are_named(odd: list[int], named: tuple[int, ...] | None) -> None:
    sums = [np.array([7.0, 1.0 if rank in odd else 0.0]) for rank in range(5)]
    judge = Judge(Ranks(0, sums), ())  # type: ignore[arg-type]
    found = judge.compare(30, sums[0][None])
    assert found == (None if named is None else DifferentWeights(30, named, 5))


def test_without_a_majority_all_ranks_are_named() -> None:
    sums = [np.array([0.0, 0.0]), np.array([0.0, 1.0])]
    found = Judge(Ranks(1, sums), ()).compare(30, sums[1][None])  # type: ignore[arg-type]
    assert found is not None and found.ranks == (0, 1) and "rank" in found.words


@pytest.mark.parametrize("leading", [0, 1, COMPARED], ids=["alone", "exchange", "comparison"])
def test_the_first_bad_step_of_several_calls_is_named(leading: int) -> None:
    alone: Any = SimpleNamespace(ranks=(0,), size=1, total=lambda values: values)
    judge = Judge(alone, ("first", "second"))
    signs = np.zeros((3, 1, leading + 2))
    judge.add(10, signs)
    later = signs.copy()
    later[1, 0, leading + 1] = later[2, 0, leading] = np.nan
    if leading:
        later[1:, 0, FLAG] = np.inf
    judge.add(13, later)
    bad, _ = judge.judge()
    assert bad is not None and (bad.step, bad.variables, bad.steps) == (15, {0: "second"}, 2)
    assert judge.judge() == (None, None)


def test_a_rank_of_an_elastic_world_is_named_by_its_slot() -> None:
    tables = np.stack([np.zeros(2), np.zeros(2), np.ones(2)])
    world: Any = SimpleNamespace(ranks=(1,), size=3, total=lambda values: tables.reshape(-1))
    different = Judge(world, ("kernel",), numbers=(2, 0, 5)).compare(7, tables[[1]])
    assert different is not None and (different.ranks, different.size) == ((5,), 3)


def test_what_was_found_before_a_new_world_still_counts() -> None:
    found: list[Any] = []
    alone: Any = SimpleNamespace(ranks=(0,), size=1, total=lambda values: values)
    response = Response(SimpleNamespace(on_nonfinite="report"), alone, ("kernel",), found.append)  # type: ignore[arg-type]
    for step in range(4):
        response.add(step, np.full((1, 1, 1), np.nan))
        response.close_window(skipped=0)
        response.regroup((3,))
    assert [(event.ranks, event.steps) for event in found] == [((0,), 1), ((3,), 2), ((3,), 4)]
