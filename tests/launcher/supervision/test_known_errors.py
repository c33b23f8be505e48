"""Errors of programs that were written for Keras 2 name the option that runs them; others do not."""

from __future__ import annotations

import pytest

from saman.launcher.supervision.failures import find_failure
from saman.runs.events import Event

# The last lines of scripts of Horovod's documentation on TensorFlow 2.21, as they were printed.
OF_KERAS_2 = [
    ["AttributeError: 'Variable' object has no attribute 'ref'"],
    ["AttributeError: 'Adam' object has no attribute 'lr'"],
    ["TypeError: Trainer.compile() got an unexpected keyword argument 'experimental_run_tf_function'"],
    ["ImportError: `keras.optimizers.legacy` is not supported in Keras 3. When using `tf.keras`, to continue using"],
    ["ModuleNotFoundError: No module named 'keras.optimizers.optimizer_v2'"],
    ["ModuleNotFoundError: No module named 'keras.optimizers.legacy'"],
    ["AttributeError: module 'keras._tf_keras.keras.losses' has no attribute 'mean_squared_error'"],
    ["ValueError: Argument(s) not recognized: {'lr': 0.0001}"],
    ["ValueError: Unrecognized keyword arguments passed to Embedding: {'input_length': 10}"],
    ["    hvd.broadcast_variables(opt.variables(), root_rank=0)", "", "    TypeError: 'list' object is not callable"],
]
OTHERS = [
    ["    model.layers()", "TypeError: 'list' object is not callable"],
    ["AttributeError: 'Net' object has no attribute 'rate'"],
    ["ModuleNotFoundError: No module named 'keras_cv'"],
]


def sentence(lines: list[str]) -> str:
    event = Event("rank_exited", "rank 0", 1.0, 1, {"rank": 0, "node": "n1", "code": 1, "last_lines": lines})
    failure = find_failure([event])
    assert failure is not None
    return failure.sentence()


@pytest.mark.parametrize("lines", OF_KERAS_2, ids=lambda lines: lines[-1][:40])
def test_a_call_that_keras_3_has_removed_names_the_option(lines: list[str]) -> None:
    said = sentence(["Traceback (most recent call last):", *lines])
    assert "--legacy-keras" in said
    assert lines[-1].strip() in said
    assert "\n" not in said


@pytest.mark.parametrize("lines", OTHERS, ids=lambda lines: lines[-1][:40])
def test_any_other_error_does_not(lines: list[str]) -> None:
    assert "--legacy-keras" not in sentence(lines)
