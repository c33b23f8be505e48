"""Random changes of training images by name, each drawn from the seed of its example."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from saman.configs.errors import UserError
from saman.configs.schemas.data import augmentation as schema
from saman.trainers.keras_compat import tf
from saman.trainers.user_code.graphs import in_graph


def augmented(
    steps: Sequence[schema.Augmentation], inner: Callable[..., Any] | None, maps_batches: bool
) -> Callable[..., Any]:
    """Return a map that changes the images which another map makes.

    Args:
        steps: The changes, in order.
        inner: The map before; ``None`` if the examples are images already.
        maps_batches: Whether both maps take batches; ``seed`` then has a row for each example.
    """
    takes_seed = inner is not None and "seed" in inspect.signature(inner).parameters

    def one(image: Any, seed: Any) -> Any:
        for number, step in enumerate(steps):
            drawn = tf.random.experimental.stateless_fold_in(seed, number + 1)
            image = tf.ensure_shape(tf.cast(_CHANGES[step.name](image, drawn, step), image.dtype), image.shape)
        return image

    def change(*example: Any, seed: Any) -> Any:
        if inner is not None:
            before = in_graph(inner)
            example = before(*example, seed=seed) if takes_seed else before(*example)
        images, *rest = example
        if maps_batches:
            spec = tf.TensorSpec(images.shape[1:], images.dtype)
            images = tf.map_fn(lambda pair: one(*pair), (images, seed), fn_output_signature=spec)
        else:
            images = one(images, seed)
        return (images, *rest)

    return change


def require_images(steps: Sequence[schema.Augmentation], inputs: Any) -> None:
    """Refuse inputs that cannot be changed; an error inside the map would reach users as TensorFlow's.

    Args:
        steps: The changes.
        inputs: The spec of a batch of inputs.

    Raises:
        UserError: The inputs are no images, or not square, or have no colours, where a change needs that.
    """
    shape = tuple(inputs.shape)[1:] if isinstance(inputs, tf.TensorSpec) else None
    if shape is None or len(shape) != 3 or None in shape:
        described = "several inputs" if shape is None else f"inputs of shape {shape}"
        problem = f"augmentation takes images of shape (height, width, channels), not {described}"
        raise UserError(problem, where="data.augment", remedy="remove data.augment, or give images a channel axis")
    for step in steps:
        square, colours = step.name != "rotate_90", step.name not in ("hue", "saturation")
        if not (square or shape[0] == shape[1]) or not (colours or shape[2] == 3):
            needs = "square images" if not square else "images with 3 channels"
            problem = f"{step.name} takes {needs}, not shape {shape}"
            raise UserError(problem, where="data.augment", remedy=f"remove {step.name}")


def _flip(image: Any, seed: Any, step: Any) -> Any:
    axis = 1 if step.name == "flip_left_right" else 0
    return tf.where(tf.random.stateless_uniform([], seed) < 0.5, tf.reverse(image, [axis]), image)


def _rotate(image: Any, seed: Any, step: schema.Turn) -> Any:
    return tf.image.rot90(image, tf.random.stateless_uniform([], seed, maxval=4, dtype=tf.int32))


def _crop(image: Any, seed: Any, step: schema.Crop) -> Any:
    border = tf.pad(image, [[step.padding, step.padding], [step.padding, step.padding], [0, 0]])
    start = tf.random.stateless_uniform([2], seed, maxval=2 * step.padding + 1, dtype=tf.int32)
    return tf.slice(border, tf.concat([start, [0]], 0), image.shape)


def _brightness(image: Any, seed: Any, step: schema.Brightness) -> Any:
    return tf.image.stateless_random_brightness(image, step.delta, seed)


def _factor(image: Any, seed: Any, step: schema.Factor) -> Any:
    change = getattr(tf.image, f"stateless_random_{step.name}")
    return change(image, step.lower, step.upper, seed)


def _hue(image: Any, seed: Any, step: schema.Hue) -> Any:
    return tf.image.stateless_random_hue(image, step.delta, seed)


def _cutout(image: Any, seed: Any, step: schema.Cutout) -> Any:
    height, width, _ = image.shape
    middle = tf.random.stateless_uniform([2], seed)
    rows = tf.range(height) - tf.cast(middle[0] * height, tf.int32) + step.size // 2
    columns = tf.range(width) - tf.cast(middle[1] * width, tf.int32) + step.size // 2
    hole = ((rows >= 0) & (rows < step.size))[:, None] & ((columns >= 0) & (columns < step.size))[None, :]
    return tf.where(hole[..., None], tf.zeros_like(image), image)


_CHANGES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "flip_left_right": _flip,
    "flip_up_down": _flip,
    "rotate_90": _rotate,
    "random_crop": _crop,
    "brightness": _brightness,
    "contrast": _factor,
    "saturation": _factor,
    "hue": _hue,
    "cutout": _cutout,
}
