"""scikit-learn's 1,797 real handwritten digits of 8×8 pixels with values 0…16; needs no network."""

from __future__ import annotations

from functools import cache

from saman.configs.errors import EnvironmentLack
from saman.configs.schemas.data.section import Data
from saman.trainers.data.division import Share
from saman.trainers.data.interface import Splits
from saman.trainers.data.sources.arrays import scaled, splits
from saman.trainers.user_code.context import Context


@cache
def _load(seed: int, share: Share) -> Splits:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise EnvironmentLack(
            "scikit-learn, which contains the digits, is missing", remedy="run saman setup"
        ) from error
    digits = load_digits()
    inputs, labels = digits.images.astype("uint8"), digits.target.astype("int32")
    return splits(inputs, labels, share, seed, scaled(16.0), name="digits")


def load(context: Context, data: Data) -> Splits:
    """Return uint8[8, 8] images with int32 labels."""
    return _load(context.seed, Share.of(data))
