"""The schema of ``data.augment``: random changes of training images, each drawn from (seed, epoch, position)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from saman.configs.problems import Strict

Share = Annotated[float, Field(gt=0, lt=1)]


class Flip(Strict):
    """Mirror the image, with a probability of one half."""

    name: Literal["flip_left_right", "flip_up_down"]


class Turn(Strict):
    """Turn the image by 0, 90, 180 or 270 degrees; it must be square."""

    name: Literal["rotate_90"]


class Crop(Strict):
    """Add a border of ``padding`` pixels of value 0 and cut out an image of the old size."""

    name: Literal["random_crop"]
    padding: PositiveInt = 4


class Brightness(Strict):
    """Add up to ±``delta``, as a share of the range of values."""

    name: Literal["brightness"]
    delta: Share = 0.1


class Factor(Strict):
    """Multiply contrast or saturation by ``lower`` to ``upper``; saturation needs 3 channels."""

    name: Literal["contrast", "saturation"]
    lower: Annotated[float, Field(ge=0)] = 0.8
    upper: Annotated[float, Field(gt=0)] = 1.2

    @model_validator(mode="after")
    def _in_order(self) -> Factor:
        if self.lower >= self.upper:
            raise ValueError("lower must be below upper")
        return self


class Hue(Strict):
    """Turn the hue by up to ±``delta`` of the circle; needs 3 channels."""

    name: Literal["hue"]
    delta: Annotated[float, Field(gt=0, le=0.5)] = 0.05


class Cutout(Strict):
    """Set a square of ``size`` pixels to 0."""

    name: Literal["cutout"]
    size: PositiveInt = 8


Augmentation = Annotated[Flip | Turn | Crop | Brightness | Factor | Hue | Cutout, Field(discriminator="name")]
