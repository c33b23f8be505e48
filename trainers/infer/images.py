"""Rows of a folder of images: an image is a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from saman.trainers.infer.rows import Array, InputSpec, RowBatch, RowSource, convert_rows

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def open_images(folder: Path, wanted: InputSpec) -> RowSource:
    """Open a folder of images, sorted by path."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGES)
    if not files:
        raise ValueError(f"this folder has no images ({', '.join(IMAGES)})")
    if len(wanted.shape) not in (2, 3) or None in wanted.shape:
        raise ValueError(f"the model takes inputs of shape {list(wanted.shape)}, not images of a fixed size")

    def read(first: int, last: int) -> RowBatch:
        shape = tuple(int(w or 1) for w in wanted.shape)
        values, errors, names = np.zeros((last - first, *shape), wanted.dtype), [], []
        for index, file in enumerate(files[first:last]):
            names.append(file.relative_to(folder).as_posix())
            try:
                pixels = _decoded(file, shape)
                fitted, [error] = convert_rows(pixels[None], wanted)
                values[index] = fitted[0]
            except ValueError as problem:
                error = str(problem)
            errors.append(error)
        return RowBatch(values, errors, names)

    return RowSource(folder, "images", len(files), read)


def _decoded(file: Path, shape: tuple[int, ...]) -> Array:
    """Decode an image with as many channels as the model takes; raises ``ValueError`` for a bad file or size."""
    import tensorflow as tf

    channels = shape[2] if len(shape) == 3 else 1
    try:
        pixels = tf.io.decode_image(file.read_bytes(), channels=channels, expand_animations=False).numpy()
    except tf.errors.InvalidArgumentError:
        raise ValueError("it cannot be read as an image") from None
    except OSError as error:
        raise ValueError(f"it cannot be read: {error.strerror}") from None
    if pixels.shape[:2] != shape[:2]:
        raise ValueError(f"it has {pixels.shape[0]}×{pixels.shape[1]} pixels instead of {shape[0]}×{shape[1]}")
    return np.asarray(pixels[..., 0] if len(shape) == 2 else pixels)
