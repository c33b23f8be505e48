"""Shipped data are what they claim to be, and a user's source of the wrong kind is refused."""

from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saman.configs.errors import UserError
from saman.configs.schemas.data.section import Data
from saman.trainers import Context, Splits

pytest.importorskip("tensorflow")

from saman.trainers.data import sources
from saman.trainers.data.sources import idx

pytestmark = pytest.mark.tensorflow
CONTEXT = Context(seed=7, epoch=0, rank=0, size=1)


def load(source: str, fraction: float = 0.2, **args: Any) -> Splits:
    return sources.load(Data(source=source, validation_fraction=fraction, args=args), CONTEXT)


def idx_bytes(values: np.ndarray) -> bytes:
    return struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def fashion(folder: Path, count: int = 20, compress: bool = True) -> Path:
    rng = np.random.default_rng(0)
    parts = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (count, 28, 28), "uint8"),
        "train-labels-idx1-ubyte": rng.integers(0, 10, count, "uint8"),
    }
    for name, values in parts.items():
        data = idx_bytes(values)
        (folder / (f"{name}.gz" if compress else name)).write_bytes(gzip.compress(data) if compress else data)
    return folder


def test_digits_are_scikit_learns_and_the_validation_part_depends_on_the_seed_alone() -> None:
    splits = load("digits")
    assert splits.identity is not None and splits.identity["examples"] == 1797
    assert (len(splits.train), len(splits.validation)) == (1438, 359)
    assert splits.normalize is not None
    train, held_out = splits.train.read(np.arange(1438))[0].numpy(), splits.validation.read(np.arange(359))[0].numpy()
    assert train.dtype == np.uint8 and train.max() == 16 and splits.normalize(train).numpy().max() == 1.0
    rows = {image.tobytes() for image in train}
    assert sum(image.tobytes() in rows for image in held_out) == 0
    assert load("digits").identity == splits.identity


@pytest.mark.parametrize("compress", [True, False])
def test_idx_files_load_plain_and_gzipped(tmp_path: Path, compress: bool) -> None:
    splits = load("fashion_mnist", 0.25, folder=str(fashion(tmp_path, compress=compress)))
    assert (len(splits.train), len(splits.validation)) == (15, 5)
    assert splits.identity is not None and splits.identity["official"] is False
    assert set(splits.identity["files"]) == {path.name for path in tmp_path.iterdir()}


def test_damaged_idx_files_are_refused_with_what_is_wrong(tmp_path: Path) -> None:
    fashion(tmp_path)
    file = tmp_path / "train-images-idx3-ubyte.gz"
    whole = file.read_bytes()
    for content, problem in [
        (whole[:-20], "damaged gzip"),
        (whole[:200] + bytes([whole[200] ^ 255]) + whole[201:], "damaged gzip"),
        (gzip.compress(gzip.decompress(whole)[:-1]), "there are 15695"),
        (gzip.compress(b"PNG"), "no IDX file"),
    ]:
        file.write_bytes(content)
        with pytest.raises(UserError, match=problem):
            idx.read(file)
    file.unlink()
    with pytest.raises(UserError, match="train-images-idx3-ubyte is missing"):
        load("fashion_mnist", folder=str(tmp_path), fraction=0.2)


@pytest.mark.data
def test_real_fashion_mnist_images_load() -> None:
    splits = load("fashion_mnist", 0.1, folder=os.environ["SAMAN_FASHION_MNIST"])
    assert (len(splits.train), len(splits.validation)) == (630, 70)


def test_synthetic_examples_repeat_beyond_what_memory_should_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    from saman.trainers.data.sources import synthetic

    monkeypatch.setattr(synthetic, "LARGEST_BYTES", 40 * 12)
    splits = load("synthetic", 0.1, shape=[2, 2, 3], classes=4, examples=100)
    assert len(splits.train) == 96
    first, again = (splits.train.read(np.array([at]))[0].numpy() for at in (3, 39))
    assert (first == again).all()
    tokens = load("synthetic", 0.5, shape=[6], classes=3, examples=20, vocabulary=11)
    assert tokens.train.read(np.arange(10))[0].numpy().max() < 11


def test_a_users_source_that_returns_something_else_is_refused() -> None:
    with pytest.raises(UserError, match="returned Model|returned Functional"):
        sources.load(Data(source="training_cases:wrong"), CONTEXT)
