"""Whether a front may compute a model itself: every batch size is tried before."""

from __future__ import annotations

import time

import numpy as np

from saman.runs.engines.batches import Arrays, rows_of
from saman.runs.engines.interface import Engine
from saman.serving.interface.signatures import DEFAULT

_TRIALS = 5  # the fastest counts: others may use the cores
_RELATIVE, _ABSOLUTE = 1e-3, 1e-4  # differences by the order of sums in batches of other sizes
MOST_SECONDS = 0.005  # of the largest batch; meanwhile the front serves nobody else


def suits_front(engine: Engine, example: Arrays, rows: int) -> bool:
    """Try every batch size, the smallest and the largest for their duration too.

    Each answer must be that of the example alone. The engine may fill a batch with rows of an earlier, larger batch:
    here they hold other numbers, and must not matter.
    """
    alone = engine.run(DEFAULT, example)
    for size in range(rows, 0, -1):
        inputs = {name: np.repeat(array, size, axis=0) for name, array in example.items()}
        outputs = engine.run(DEFAULT, inputs)
        if any(rows_of({name: array}) != size for name, array in outputs.items()):
            return False
        if any(not np.allclose(outputs[name], alone[name], _RELATIVE, _ABSOLUTE, equal_nan=True) for name in alone):
            return False
        if size in (1, rows) and min(_duration(engine, inputs) for _ in range(_TRIALS)) > MOST_SECONDS:
            return False
        engine.run(DEFAULT, {name: np.ones_like(array) for name, array in inputs.items()})
    return True


def _duration(engine: Engine, inputs: Arrays) -> float:
    began = time.perf_counter()
    engine.run(DEFAULT, inputs)
    return time.perf_counter() - began
