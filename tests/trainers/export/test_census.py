"""The description of the training data depends on their content alone, not on their order or their batches."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

tf = pytest.importorskip("tensorflow")

from saman.trainers.data.feed import Feed  # noqa: E402
from saman.trainers.export import census  # noqa: E402
from saman.trainers.export.census import Census, example_bytes, example_ids, take_census  # noqa: E402

pytestmark = pytest.mark.tensorflow
RNG = np.random.default_rng(4)
IMAGES, LABELS = RNG.normal(size=(50, 4, 3)).astype("float32"), RNG.integers(0, 3, 50)


def census_of(inputs: np.ndarray, labels: np.ndarray, batch: int = 8, order: Sequence[int] | None = None) -> Census:
    """The census of examples in this order."""
    at = list(range(len(labels))) if order is None else list(order)
    dataset = tf.data.Dataset.from_tensor_slices((inputs[at], labels[at]))
    feed = Feed(
        dataset=dataset, examples=len(labels), global_batch_size=batch, where="here", seed=1, epoch=0, shuffle=False,
        map=None, maps_batches=False,
    )  # fmt: skip
    specs = tuple(tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in (inputs, labels))
    prepared: Any = SimpleNamespace(
        feeds=SimpleNamespace(train=lambda _epoch: feed),
        element_spec=specs,
        splits=lambda _epoch: SimpleNamespace(identity={"source": "made"}),
        identity=None,
        train=None,
    )
    return take_census(prepared)


def test_the_identity_is_of_the_content_and_not_of_the_order_or_the_batches() -> None:
    plain = census_of(IMAGES, LABELS)
    shuffled = census_of(IMAGES, LABELS, batch=7, order=RNG.permutation(50))
    assert plain.identity == shuffled.identity
    assert plain.identity["source"] == "made" and plain.identity["training_examples"] == 50
    assert (plain.training_ids == shuffled.training_ids).all() and len(plain.training_ids) == 50


def test_a_single_changed_value_changes_the_identity() -> None:
    changed = IMAGES.copy()
    changed[17, 2, 1] += 1e-6
    assert census_of(changed, LABELS).identity != census_of(IMAGES, LABELS).identity
    relabelled = LABELS.copy()
    relabelled[3] = (relabelled[3] + 1) % 3
    assert census_of(IMAGES, relabelled).identity != census_of(IMAGES, LABELS).identity


def test_statistics_are_numpys_per_element_of_an_example() -> None:
    [about] = census_of(IMAGES, LABELS).statistics["inputs"]
    flat = IMAGES.reshape(50, 12).astype("float64")
    assert (about["per"], about["features"]) == ("element", 12)
    assert about["mean"] == pytest.approx(list(flat.mean(0)), rel=1e-5)
    assert about["std"] == pytest.approx(list(flat.std(0)), rel=1e-5)
    assert about["quantiles"]["0.5"] == pytest.approx(list(np.median(flat, 0)), rel=1e-5)


def test_large_examples_are_described_per_channel() -> None:
    large = RNG.normal(size=(5, 30, 30, 2)).astype("float32")  # 1,800 entries
    [about] = census_of(large, LABELS[:5]).statistics["inputs"]
    assert (about["per"], about["features"]) == ("channel", 2)
    assert about["mean"] == pytest.approx(list(large.reshape(-1, 2).mean(0, dtype="float64")), rel=1e-4)


def test_classes_are_counted_and_other_labels_measured() -> None:
    counts = census_of(IMAGES, LABELS).statistics["labels"]["counts"]
    assert counts == {str(label): int((label == LABELS).sum()) for label in range(3)}
    targets = census_of(IMAGES, IMAGES[:, 0, 0]).statistics["labels"]
    assert "counts" not in targets and targets["features"] == 1


def test_of_data_too_large_to_read_only_a_part_is_described_and_no_identity_claimed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(census, "MOST_EXAMPLES", 10)
    part = census_of(IMAGES, LABELS)
    assert part.identity["training_content"] is None
    assert 10 <= part.identity["examples_read"] < 50


def test_statistics_hold_a_bounded_part_of_the_data_and_every_example_has_its_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = census_of(IMAGES, LABELS)
    monkeypatch.setattr(census, "DESCRIBED_BYTES", 10 * IMAGES[0].nbytes)
    monkeypatch.setattr(census, "BLOCK_NUMBERS", 20)
    part = census_of(IMAGES, LABELS)
    assert (part.training_ids == whole.training_ids).all() and part.identity == whole.identity
    first = IMAGES[:16].reshape(16, 12).astype("float64")  # two batches of 8: the second reaches the bound
    [about] = part.statistics["inputs"]
    assert part.statistics["examples"] == 16 and about["features"] == 12
    assert about["mean"] == pytest.approx(list(first.mean(0)), rel=1e-5)
    assert about["std"] == pytest.approx(list(first.std(0)), rel=1e-5)
    assert about["quantiles"]["0.95"] == pytest.approx(list(np.quantile(first, 0.95, 0)), rel=1e-5)
    assert part.statistics["labels"] == whole.statistics["labels"]


def test_an_example_has_an_id_of_its_input_and_its_label() -> None:
    ids = example_ids([IMAGES], LABELS)
    assert ids.dtype == np.uint64 and len(set(ids)) == 50
    assert (example_ids([IMAGES[::-1]], LABELS[::-1]) == ids[::-1]).all()
    assert (example_ids([IMAGES], LABELS + 1) != ids).all()


def test_axes_of_unknown_length_count_as_one() -> None:
    specs = (tf.TensorSpec([None, 4, None], tf.float64), tf.TensorSpec([None], tf.int32))
    assert example_bytes(specs) == 4 * 8 + 4
