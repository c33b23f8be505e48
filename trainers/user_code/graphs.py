"""How functions enter a graph: users' with AutoGraph, saman's own without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saman.trainers.keras_compat import tf


def in_graph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that a graph may call.

    AutoGraph lets Python's ``if`` and ``for`` depend on tensors. A user's function is converted, whoever calls it.
    saman's own need no conversion, which would take 0.4 s at the start of a rank.

    Args:
        function: A function of tensors, a user's or saman's.
    """
    if (getattr(function, "__module__", None) or "").startswith("saman."):
        return tf.autograph.experimental.do_not_convert(function)
    return tf.function(function)
