"""A small Transformer encoder (Vaswani et al., 2017; pre-norm) that classifies sequences of token ids.

Order comes from a depthwise convolution instead of position numbers (Chu et al., 2021), so that only layers of Keras
itself are used and the exported file loads anywhere.
"""

from __future__ import annotations

from typing import Any

from saman.trainers.keras_compat import keras
from saman.trainers.models.mlp import probabilities


def build(
    input_shape: tuple[int, ...],
    classes: int,
    vocabulary: int,
    width: int,
    heads: int,
    blocks: int,
    dropout: float,
) -> Any:
    """Sequences of shape (length,); raises ``ValueError`` for any other shape, or where heads do not divide width."""
    if len(input_shape) != 1:
        raise ValueError("sequences of token ids have the shape (length,)")
    if width % heads:
        raise ValueError(f"width {width} does not divide by {heads} heads")
    layers = keras.layers
    inputs = keras.Input(input_shape, dtype="int32")
    x = layers.Embedding(vocabulary, width)(inputs)
    x = layers.Add()([x, layers.DepthwiseConv1D(3, padding="same")(x)])
    for _ in range(blocks):
        normed = layers.LayerNormalization()(x)
        attended = layers.MultiHeadAttention(heads, width // heads, dropout=dropout)(normed, normed)
        x = layers.Add()([x, attended])
        y = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(x))
        y = layers.Dense(width)(y)
        x = layers.Add()([x, layers.Dropout(dropout)(y) if dropout else y])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return keras.Model(inputs, probabilities(x, classes))
