"""The arguments of the built-in models and data sources; a user's own function takes any."""

from __future__ import annotations

from typing import Any

from pydantic import Field, PositiveInt, ValidationError

from saman.configs.errors import UserError, choices
from saman.configs.names import is_reference
from saman.configs.problems import Problems, Strict, findings
from saman.configs.schemas.data.files import ImageFiles, NumpyFiles, TableFiles, TfRecordFiles


class Mlp(Strict):
    """Arguments of ``mlp``: a multilayer perceptron on flattened inputs."""

    classes: PositiveInt = 10
    hidden: list[PositiveInt] = [64]
    dropout: float = Field(0.0, ge=0, lt=1)


class Cnn(Strict):
    """Arguments of ``cnn``: convolution blocks of 3×3 kernels, each followed by pooling, then one dense layer."""

    classes: PositiveInt = 10
    filters: list[PositiveInt] = Field([16, 32], min_length=1)
    dense: PositiveInt = 64
    batch_norm: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)


class Application(Strict):
    """A network of keras.applications, without weights, on images of the data's own size."""

    classes: PositiveInt = 1000


class Transformer(Strict):
    """Arguments of ``transformer``: a small encoder that classifies sequences of token ids."""

    classes: PositiveInt = 10
    vocabulary: PositiveInt = 1000
    width: PositiveInt = 64
    heads: PositiveInt = 4
    blocks: PositiveInt = 2
    dropout: float = Field(0.0, ge=0, lt=1)


class Digits(Strict):
    """Arguments of ``digits``: scikit-learn's 1,797 images of digits, 8×8 pixels; needs no network."""


class FashionMnist(Strict):
    """Arguments of ``fashion_mnist``: IDX files in ``folder``, else downloaded through Keras' loader."""

    folder: str | None = None


class Synthetic(Strict):
    """Arguments of ``synthetic``: random examples for benchmarks.

    Images of ``shape``, or token ids if ``vocabulary`` is set; the same at every run.
    """

    shape: list[PositiveInt] = Field([32, 32, 3], min_length=1)
    classes: PositiveInt = 10
    examples: PositiveInt = 1024
    vocabulary: PositiveInt | None = None


# name in experiments -> class in keras.applications
APPLICATIONS = {
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "mobilenet_v2": "MobileNetV2",
    "efficientnet_b0": "EfficientNetB0",
    "densenet121": "DenseNet121",
    "inception_v3": "InceptionV3",
    "vgg16": "VGG16",
    "xception": "Xception",
}
MODELS: dict[str, type[Strict]] = {
    "mlp": Mlp,
    "cnn": Cnn,
    "transformer": Transformer,
    **dict.fromkeys(APPLICATIONS, Application),
}
SOURCES: dict[str, type[Strict]] = {
    "digits": Digits,
    "fashion_mnist": FashionMnist,
    "synthetic": Synthetic,
    "numpy": NumpyFiles,
    "images": ImageFiles,
    "tfrecord": TfRecordFiles,
    "parquet": TableFiles,
    "csv": TableFiles,
}


def known(kind: dict[str, type[Strict]], name: str) -> str:
    """``name``, if it is built in or refers to user code; raises ``Problems`` otherwise."""
    if name in kind or is_reference(name):
        return name
    problem = f"{name!r} is neither built in nor a reference such as package.module:function"
    raise Problems([UserError(problem, remedy=choices(name, kind))])


def resolved_args(kind: dict[str, type[Strict]], name: str | None, args: dict[str, Any]) -> dict[str, Any]:
    """Complete the arguments of a built-in with the defaults of its schema; arguments of user code stay as they are.

    Args:
        kind: The built-ins, such as ``SOURCES``.
        name: The built-in, or a reference to user code.
        args: The arguments that the experiment gives.

    Raises:
        Problems: Unknown or invalid arguments of a built-in.

    >>> resolved_args(SOURCES, "my_data:load", {"rows": 10})
    {'rows': 10}
    """
    if name not in kind:
        return args
    try:
        return kind[name].model_validate(args).model_dump(mode="json")
    except ValidationError as error:
        raise Problems(findings(kind[name], error)) from None
