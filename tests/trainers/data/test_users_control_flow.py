"""Python's ``if`` over tensors works in users' functions, whoever calls them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from saman.configs.schemas.data.augmentation import Flip  # noqa: E402
from saman.trainers.data.augmentation import augmented  # noqa: E402
from saman.trainers.data.division import Share, divide  # noqa: E402
from saman.trainers.data.feed import Feed, Slice  # noqa: E402
from saman.trainers.data.interface import RandomAccess  # noqa: E402

pytestmark = pytest.mark.tensorflow
EXAMPLES = 12


def read(positions: Any) -> Any:
    if tf.reduce_sum(positions) < 0:
        positions = -positions
    return tf.ones([tf.size(positions), 4, 4, 1]), positions


def brighter(images: Any, labels: Any) -> Any:
    if tf.reduce_sum(labels) >= 0:
        images = images * 2.0
    return images, labels


def feed(dataset: RandomAccess, map: Callable[..., Any] | None = None, maps_batches: bool = False) -> Feed:
    return Feed(
        dataset=dataset, examples=dataset.examples, global_batch_size=4, seed=1, epoch=0, shuffle=True, map=map,
        maps_batches=maps_batches, where="here",
    )  # fmt: skip


@pytest.mark.parametrize("maps_batches", [True, False])
@pytest.mark.parametrize("fixed", [True, False], ids=["fixed", "elastic"])
def test_in_the_training_batches(fixed: bool, maps_batches: bool) -> None:
    given = feed(RandomAccess(EXAMPLES, read), brighter, maps_batches)
    part = Slice(0, 1, fixed=fixed)
    start = [tf.constant(number, tf.int64) for number in (0, 1, 0)]
    images, _ = next(iter(given.full_batches(part) if fixed else given.pipeline()(*start)))
    assert (np.asarray(images) == 2).all()


def test_in_batches_that_are_read_without_a_pipeline() -> None:
    images, _ = next(feed(RandomAccess(EXAMPLES, read), brighter, maps_batches=True).whole_batches())
    assert (np.asarray(images) == 2).all()


def test_in_parts_of_a_user_s_examples() -> None:
    parts = divide(RandomAccess(EXAMPLES, read), Share(test=0.25), seed=1)
    assert parts.test is not None
    labels = [labels for part in (parts.train, parts.test) for _, labels in feed(part).whole_batches()]
    assert sorted(np.concatenate(labels).tolist()) == list(range(EXAMPLES))


def test_before_an_augmentation() -> None:
    change = augmented([Flip(name="flip_up_down")], brighter, maps_batches=False)
    images, _ = next(iter(feed(RandomAccess(EXAMPLES, read), change).full_batches(Slice(0, 1))))
    assert (np.asarray(images) == 2).all()


def test_a_function_of_saman_s_own_runs_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """AutoGraph would write each anew, which takes 0.4 s at the start of a rank."""
    callers: list[str] = []

    def spy(positions: Any, *_: Any) -> Any:
        callers.append(sys._getframe(1).f_code.co_filename)
        return positions

    spy.__module__ = "saman.made_up"
    monkeypatch.setattr("saman.trainers.data.feed.permute", spy)
    next(iter(feed(RandomAccess(EXAMPLES, read)).full_batches(Slice(0, 1))))
    assert [Path(file).name for file in callers] == ["feed.py"]
