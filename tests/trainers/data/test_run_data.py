"""Weights, one-hot labels and augmentation do what their keys say, on whatever rank an example lands."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.configs.schemas.data.section import Data
from saman.trainers import Context, RandomAccess, Splits

tf = pytest.importorskip("tensorflow")

from saman.trainers.data.feed import Slice  # noqa: E402
from saman.trainers.data.parts import RunData  # noqa: E402
from saman.trainers.program.objective import Objective  # noqa: E402

pytestmark = pytest.mark.tensorflow
EXAMPLES = 40
LABELS = np.array([0, 0, 0, 2] * 10, "int64")
OWN = np.arange(EXAMPLES).astype("float32")
IMAGES = np.random.default_rng(0).integers(0, 256, (EXAMPLES, 6, 6, 3), "uint8")


def by_position(*arrays: np.ndarray) -> RandomAccess:
    return RandomAccess(len(arrays[0]), lambda positions: tuple(tf.gather(array, positions) for array in arrays))


def pairs(ctx: Context) -> Splits:
    return Splits(by_position(IMAGES, LABELS), by_position(IMAGES[:7], LABELS[:7]))


def weighted(ctx: Context) -> Splits:
    return Splits(by_position(IMAGES, LABELS, OWN), by_position(IMAGES[:7], LABELS[:7], OWN[:7]))


def in_batches(ctx: Context) -> Splits:
    return Splits(by_position(IMAGES, LABELS), map=lambda image, label: (image, label), maps_batches=True)


def streamed(ctx: Context) -> Splits:
    return Splits(tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)))


def run_data(source: str, **keys: Any) -> RunData:
    sys.modules.setdefault("own_data", sys.modules[__name__])
    data = Data.model_validate({"source": f"own_data:{source}", **keys})
    return RunData(data, 8, Context(seed=3, epoch=0, rank=0, size=1))


def read(made: RunData, ranks: int = 1, epoch: int = 0, part: Any = "train") -> list[np.ndarray]:
    """All parts of the examples in the order of the global batches."""
    feed = made.feed(part, epoch)
    steps = zip(*(feed.batches(Slice(rank, ranks)) for rank in range(ranks)), strict=True)
    columns: list[list[Any]] = []
    for batches in steps:
        size = sum(len(batch[1]) for batch in batches)
        for row in range(size):
            columns.append([np.asarray(column)[row // ranks] for column in batches[row % ranks]])
    return [np.stack(column) for column in zip(*columns, strict=True)]


def test_class_weights_multiply_the_weights_of_training_examples_only() -> None:
    images, labels, weights = read(run_data("weighted", class_weights={2: 5.0}))
    own = {image.tobytes(): weight for image, weight in zip(IMAGES, OWN, strict=True)}
    expected = [own[image.tobytes()] * (5 if label == 2 else 1) for image, label in zip(images, labels, strict=True)]
    assert weights.tolist() == expected
    assert read(run_data("weighted", class_weights={2: 5.0}), part="validation")[2].tolist() == OWN[:7].tolist()
    assert len(read(run_data("pairs"))) == 2, "without weights nothing is added"


def test_balanced_classes_weigh_the_same_in_total() -> None:
    _, labels, weights = read(run_data("pairs", class_weights="balanced"))
    totals = [weights[labels == number].sum() for number in (0, 2)]
    assert totals == pytest.approx([EXAMPLES / 2, EXAMPLES / 2])
    with pytest.raises(UserError, match="random access"):
        run_data("streamed", class_weights="balanced")


def test_weights_multiply_losses_and_leave_count_and_accuracy_as_in_keras() -> None:
    outputs = tf.constant([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    found = Objective("sparse_categorical_crossentropy").measure(
        tf.constant([0, 1, 1]), outputs, tf.constant([2.0, 0, 1])
    )
    assert float(found.loss) == pytest.approx(-2 * np.log(0.9) - np.log(0.3), rel=1e-6)
    assert (float(found.correct), float(found.examples)) == (2.0, 3.0)


@pytest.mark.parametrize("shape", [(3,), (3, 1)])
def test_whole_numbers_become_one_hot_rows_where_the_loss_wants_them(shape: tuple[int, ...]) -> None:
    outputs = tf.constant([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3]])
    numbers = tf.reshape(tf.constant([0, 1, 1]), shape)
    rows = tf.constant([[1.0, 0], [0, 1], [0, 1]])
    one_hot = Objective("categorical_crossentropy")
    assert np.allclose(one_hot.measure(numbers, outputs).vector(), one_hot.measure(rows, outputs).vector())


EVERY_CHANGE = [
    "flip_left_right", "flip_up_down", "rotate_90", "random_crop", "brightness", "contrast", "saturation", "hue",
    {"name": "cutout", "size": 2},
]  # fmt: skip


@pytest.mark.parametrize("source", ["pairs", "in_batches"])
def test_an_image_is_changed_in_the_same_way_on_any_rank_and_anew_in_each_epoch(source: str) -> None:
    made = run_data(source, augment=EVERY_CHANGE)
    one, three = read(made), read(made, ranks=3) if EXAMPLES % 3 == 0 else read(made, ranks=4)
    assert all((a == b).all() for a, b in zip(one, three, strict=True))
    assert one[0].dtype == np.uint8 and one[0].shape == IMAGES.shape
    assert (read(made, epoch=1)[0] != one[0]).any()
    plain = read(run_data(source))
    assert (plain[1] == one[1]).all() and (plain[0] != one[0]).any(axis=(1, 2, 3)).mean() > 0.9


@pytest.mark.parametrize("name", ["flip_left_right", "flip_up_down", "rotate_90"])
def test_flips_and_turns_move_pixels_and_change_none(name: str) -> None:
    changed, _ = read(run_data("pairs", augment=[name], shuffle=False))
    moved = 0
    for before, after in zip(IMAGES, changed, strict=True):
        turned = {"flip_left_right": [before[:, ::-1]], "flip_up_down": [before[::-1]]}
        allowed = [before, *turned.get(name, [np.rot90(before, turns) for turns in (1, 2, 3)])]
        assert any((after == image).all() for image in allowed)
        moved += int((after != before).any())
    assert 0.25 < moved / EXAMPLES < 0.95


def test_augmentation_of_what_is_no_image_is_refused() -> None:
    def numbers(ctx: Context) -> Splits:
        return Splits(by_position(LABELS, LABELS))

    def gray(ctx: Context) -> Splits:
        return Splits(by_position(IMAGES[:, 1:, :, :1], LABELS))

    globals().update(numbers=numbers, gray=gray)
    for source, name, problem in [
        ("numbers", "hue", "takes images"), ("gray", "hue", "3 channels"), ("gray", "rotate_90", "square"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=problem):
            run_data(source, augment=[name])


def test_the_cost_of_data_without_random_access_is_measured_and_said() -> None:
    said = " ".join(notice.text for notice in run_data("streamed").notices())
    assert "each rank reads all 40 examples" in said and "examples/s" in said
    assert run_data("pairs", checks="ignore").notices() == ()


def test_problems_of_the_data_are_notices_or_end_the_run() -> None:
    [said] = run_data("pairs").notices()
    assert said.text == "data: 7 of 7 validation examples looked at have the inputs of train examples"
    with pytest.raises(UserError, match="7 of 7 validation examples") as refused:
        run_data("pairs", checks={"duplicates": "error"}).notices()
    assert refused.value.where == "data.checks.duplicates"


def test_test_examples_and_folds_are_drawn_of_a_users_own_examples_too() -> None:
    everything = sorted(row.tobytes() for row in IMAGES)
    validated: list[bytes] = []
    tested: set[tuple[bytes, ...]] = set()
    for fold in range(2):
        made = run_data("in_batches", test_fraction=0.25, folds=2, fold=fold)
        parts = {part: [row.tobytes() for row in read(made, part=part)[0]] for part in ("train", "validation", "test")}
        assert {part: len(rows) for part, rows in parts.items()} == {"train": 15, "validation": 15, "test": 10}
        assert sorted(sum(parts.values(), [])) == everything
        assert sorted(row.tobytes() for row in read(made, epoch=1)[0]) == sorted(parts["train"])
        validated += parts["validation"]
        tested.add(tuple(sorted(parts["test"])))
    assert len(tested) == 1 and sorted([*validated, *tested.pop()]) == everything


@pytest.mark.parametrize(
    ("source", "keys", "where"),
    [
        ("streamed", {"test_fraction": 0.2}, "data.test_fraction"),
        ("streamed", {"folds": 2, "fold": 0}, "data.folds"),
        ("pairs", {"folds": 2, "fold": 0}, "data.folds"),
    ],
)
def test_a_part_that_cannot_be_drawn_is_refused_and_not_left_out(source: str, keys: Any, where: str) -> None:
    with pytest.raises(UserError) as refused:
        run_data(source, **keys)
    assert refused.value.where == where


def test_a_function_without_validation_examples_is_noticed() -> None:
    said = [notice.text for notice in run_data("in_batches", checks="ignore").notices()]
    assert any("no validation examples" in text for text in said)
    assert not any("no validation" in n.text for n in run_data("pairs", checks="ignore").notices())
