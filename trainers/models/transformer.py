"""A small Transformer encoder (Vaswani et al., 2017; pre-norm) that classifies sequences of token ids.

A depthwise convolution encodes the order instead of position numbers (Chu et al., 2021), so that all layers are Keras'
own and the exported file loads anywhere.
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
    """Build the encoder.

    Args:
        input_shape: (length,) of the token ids.
        classes: The number of probabilities.
        vocabulary: The number of token ids.
        width: The width of the embedding, a multiple of ``heads``.
        heads: The number of attention heads.
        blocks: The number of encoder blocks.
        dropout: The dropout rate.

    Raises:
        ValueError: The inputs are no sequences, or ``heads`` does not divide ``width``.
    """
    if len(input_shape) != 1:
        raise ValueError("sequences of token ids need the shape (length,)")
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
