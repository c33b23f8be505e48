"""The arguments of the built-in sources that read data files. Paths may hold wildcards; ``~`` is the home folder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from saman.configs.problems import Strict

Files = str | Annotated[list[str], Field(min_length=1)]
Size = Annotated[list[PositiveInt], Field(min_length=2, max_length=2)]


class ArrayFiles(Strict):
    """Arrays of the same examples: ``.npy`` files, or the names of arrays in the ``.npz`` file ``archive``."""

    inputs: Files = "inputs"
    labels: Files = "labels"
    weights: Files | None = None
    archive: str | None = None

    @model_validator(mode="after")
    def _names_in_an_archive(self) -> ArrayFiles:
        parts = (self.inputs, self.labels, self.weights)
        if self.archive is not None and any(isinstance(part, list) for part in parts):
            raise ValueError("with archive, inputs, labels and weights are each the name of an array")
        return self


class NumpyFiles(Strict):
    """Arguments of ``numpy``: rows of NumPy files, mapped into memory; inputs are divided by ``scale``."""

    train: ArrayFiles
    validation: ArrayFiles | None = None
    test: ArrayFiles | None = None
    scale: float | None = Field(None, gt=0)


class ImageFiles(Strict):
    """Arguments of ``images``: folders of one folder per class, or CSV lists with the columns path and label.

    Images are resized to ``size`` (height, width) where they differ, and divided by 255 in the model.
    """

    train: str
    validation: str | None = None
    test: str | None = None
    size: Size
    channels: Literal[1, 3, 4] = 3


class Feature(Strict):
    """A feature of the examples in TFRecord files.

    ``image`` is an encoded JPEG, PNG, GIF or BMP of ``shape`` (height, width, channels); ``uint8`` and the like, and
    ``raw_float32``, are the bytes of an array.
    """

    dtype: Literal["float32", "int64", "image", "uint8", "int16", "int32", "raw_int64", "raw_float32"]
    shape: list[PositiveInt] = []

    @model_validator(mode="after")
    def _an_image_has_three_axes(self) -> Feature:
        if self.dtype == "image" and (len(self.shape) != 3 or self.shape[2] not in (1, 3, 4)):
            raise ValueError("an image has the shape [height, width, channels], with 1, 3 or 4 channels")
        return self


class TfRecordFiles(Strict):
    """Arguments of ``tfrecord``: ``tf.train.Example`` records with fixed features; ``scale`` divides the inputs."""

    train: Files
    validation: Files | None = None
    test: Files | None = None
    features: dict[str, Feature]
    inputs: Files
    label: str = "label"
    weight: str | None = None
    scale: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _features_are_described(self) -> TfRecordFiles:
        names = [self.inputs] if isinstance(self.inputs, str) else self.inputs
        for name in (*names, self.label, *([self.weight] if self.weight else [])):
            if name not in self.features:
                raise ValueError(f"features does not describe {name!r}")
        return self


class TableFiles(Strict):
    """Arguments of ``parquet`` and ``csv``: columns of numbers, or a column of lists of numbers (Parquet).

    ``inputs`` are all columns of numbers unless given. ``scale`` divides them.
    """

    train: Files
    validation: Files | None = None
    test: Files | None = None
    inputs: list[str] = []
    label: str = "label"
    weight: str | None = None
    dtype: Literal["float32", "float64", "int32", "int64"] = "float32"
    scale: float | None = Field(None, gt=0)
