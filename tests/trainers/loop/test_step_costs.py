"""What a step costs, in counts that no busy machine changes: messages, calls of Python, operations, opened files."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

pytest.importorskip("tensorflow")

from saman.configs.schemas.training import Train
from saman.trainers import keras_compat
from saman.trainers.keras_compat import keras, tf
from saman.trainers.loop.loop import Loop
from saman.trainers.loop.step import DataParallelStep
from saman.trainers.loop.step_times import StepTotals
from saman.trainers.loop.telemetry import TelemetryWriter
from saman.trainers.program import program
from saman.trainers.program.loss_scale import LossScale
from saman.trainers.strategies.horovod import HorovodStrategy
from saman.trainers.strategies.single import SingleStrategy

pytestmark = pytest.mark.tensorflow

SPEC = (tf.TensorSpec([None, 6], tf.float32), tf.TensorSpec([None], tf.int32))


class Horovod:
    """Stands for Horovod on two ranks; counts the messages of a graph."""

    Sum = "sum"

    def __init__(self) -> None:
        self.messages: list[int] = []

    def size(self) -> int:
        return 2

    def rank(self) -> int:
        return 0

    def grouped_allreduce(self, tensors: list[Any], op: str, name: str) -> list[Any]:
        self.messages.append(len(tensors))
        return [2.0 * tensor for tensor in tensors]


def step(strategy: Any, precision: str = "float32", layers: int = 2, **options: Any) -> DataParallelStep:
    keras_compat.start_session(1, precision)
    hidden = [keras.layers.Dense(8, "relu") for _ in range(layers)]
    norm = keras.layers.BatchNormalization()
    model = keras.Sequential([keras.Input([6]), *hidden, norm, keras.layers.Dense(4, "softmax")])
    train = Train.model_validate({"global_batch_size": 8, "precision": precision, "learning_rate": 0.1})
    return DataParallelStep(program.build(train, model, SPEC, None), strategy, 1, LossScale(precision), **options)


def stream(batch: int = 8) -> Any:
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(64, 6)).astype("float32"), rng.integers(0, 4, 64).astype("int32")
    return iter(tf.data.Dataset.from_tensor_slices(arrays).repeat().batch(batch, drop_remainder=True))


def many(one: DataParallelStep, steps: int, batches: Any) -> StepTotals:
    assert one.train_many is not None
    return one.train_many(0, [0.1] * steps, 0.0, [batches])


@pytest.mark.parametrize(("precision", "messages"), [("float32", 1), ("float64", 1), ("mixed_bfloat16", 1)])
def test_gradients_statistics_and_sums_travel_in_a_single_message(precision: str, messages: int) -> None:
    hvd = Horovod()
    many(step(HorovodStrategy(hvd), precision), 3, stream())
    assert len(hvd.messages) == messages  # traced once: the loop is in the graph
    assert hvd.messages[0] == 6 + 2 + 2 + 1 + 1  # weights, BatchNorm's own, its statistics, the sums, signs of failure


def test_a_single_rank_of_horovod_sends_nothing() -> None:
    hvd = Horovod()
    hvd.size = lambda: 1  # type: ignore[method-assign]
    many(step(HorovodStrategy(hvd)), 3, stream())
    assert hvd.messages == []


def _python_calls(function: Any) -> int:
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_python_does_as_much_for_two_hundred_steps_of_a_call_as_for_two() -> None:
    one, batches = step(SingleStrategy()), stream()
    many(one, 2, batches)
    few, lots = (_python_calls(lambda steps=steps: many(one, steps, batches)) for steps in (2, 200))
    assert lots <= 1.1 * few


def _operations(one: DataParallelStep) -> list[Any]:
    """The operations of a step on full batches, of the loop's body and the functions that it calls."""
    rates = tf.zeros([4], tf.float64)
    arguments = tf.constant(0, tf.int64), rates, tf.constant(4), tf.constant(0.0, tf.float64), [stream()]
    graph = one._steps_graph.get_concrete_function(*arguments).graph.as_graph_def()
    return [node for function in graph.library.function for node in function.node_def]


def test_a_full_batch_has_no_branches_and_time_stamps_add_few_operations() -> None:
    whole, bare = ([node.op for node in _operations(step(SingleStrategy(), stamps=on))] for on in (True, False))
    assert not {"If", "StatelessIf", "Case"} & {*whole}
    assert whole.count("Timestamp") == 3
    assert len(whole) - len(bare) <= 12


def test_float64_work_of_a_step_does_not_grow_with_the_model() -> None:
    def doubles(layers: int) -> int:
        nodes = _operations(step(SingleStrategy(), layers=layers))
        return sum(node.attr["T"].type == tf.float64.as_datatype_enum for node in nodes if node.op != "Cast")

    assert doubles(8) == doubles(1)


def test_windows_of_a_long_call_are_as_long_as_the_experiment_says_and_add_up(tmp_path: Path) -> None:
    path = tmp_path / "00000.jsonl"
    writer = TelemetryWriter(path, (0,), 2, 10, chief=True)
    began, measures = time.time(), np.tile([2.0, 1.0, 4.0, 0.0], (25, 1))
    measures[10:, 0] = 8.0
    stamps = [[0.0002, began + 0.002 * at + 0.001, began + 0.002 * at + 0.002] for at in range(25)]
    time.sleep(0.3)
    assert writer.add(25, 100, StepTotals(measures, stamps))
    total = writer.close_window(40, 1, lambda step: step / 100)
    assert total.tolist() == [2.0 * 10 + 8.0 * 15, 25.0, 100.0, 0.0]
    windows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [(window["steps"], window["step"], window["samples"]) for window in windows] == [
        (10, 25, 40), (10, 35, 40), (5, 40, 20)
    ]  # fmt: skip
    assert [window["loss"] for window in windows] == [0.5, 2.0, 2.0]
    assert [window["learning_rate"] for window in windows] == [0.24, 0.34, 0.39]
    assert windows[1]["seconds"] == pytest.approx(0.02, abs=1e-3)
    assert windows[1]["exchange_seconds"] == pytest.approx(0.01, abs=1e-4)
    assert windows[-1]["time"] - began == pytest.approx(sum(window["seconds"] for window in windows), abs=0.1)


@pytest.mark.parametrize(("so_far", "wanted", "steps"), [(0, 7, 7), (0, 10, 10), (0, 29, 20), (3, 25, 17), (3, 6, 6)])
def test_a_call_ends_with_a_window_where_it_reaches_an_end(
    so_far: int, wanted: int, steps: int, tmp_path: Path
) -> None:
    writer = TelemetryWriter(tmp_path / "00000.jsonl", (0,), 1, 10, chief=True)
    if so_far:
        writer.add(so_far, 1, StepTotals(np.zeros((so_far, 4))))
    assert writer.fit(wanted) == steps


def test_ranks_of_unequal_pace_take_the_chiefs_steps_in_a_call(tmp_path: Path) -> None:
    """They then see a stop request after the same step."""

    def steps(chief: bool, seconds_per_step: float, said: list[float]) -> list[int]:
        def total(values: np.ndarray) -> np.ndarray:
            if chief:
                said.append(float(values[0]))
                return values
            return values + said.pop(0)

        loop = Loop(
            Train.model_validate({"global_batch_size": 8, "checkpoint": {"every_steps": 90}}),
            SimpleNamespace(chief=chief, total=total, ranks=(0,), size=2),  # type: ignore[arg-type]
            SimpleNamespace(slices=[], part=None, parts=1, divided=False, width=4, variable_names=()),  # type: ignore[arg-type]
            SimpleNamespace(),  # type: ignore[arg-type]
            SimpleNamespace(steps=1000),  # type: ignore[arg-type]
            SimpleNamespace(  # type: ignore[arg-type]
                checkpoints=tmp_path,
                training_facts=None,
                telemetry=TelemetryWriter(tmp_path / "00000.jsonl", (0,), 2, 10, chief),
                mtbf_seconds=86400.0,
                callbacks=(),
            ),
        )
        loop._traced.add("stream")
        taken = []
        for call in range(20):
            loop._seconds_per_step = seconds_per_step * (1 + call % 3)
            taken.append(loop._steps_per_call(SimpleNamespace(full_steps=500)))  # type: ignore[arg-type]
        return taken

    said: list[float] = []
    chiefs = steps(True, 0.002, said)
    assert max(chiefs) == 90 and len({*chiefs}) > 1  # not beyond the next checkpoint
    assert steps(False, 0.05, said) == chiefs and not said


@pytest.mark.parametrize("strategy", ["mirrored", "multi_worker", "pipeline"])
def test_xla_is_refused_where_steps_cannot_be_compiled(strategy: str) -> None:
    with pytest.raises(ValidationError, match=f"jit_compile: {strategy} does not compile steps; use single or horovod"):
        Train.model_validate({"global_batch_size": 8, "strategy": strategy, "jit_compile": True})


def test_xla_takes_the_same_steps() -> None:
    states = []
    for compiled in (False, True):
        one = step(SingleStrategy(), jit_compile=compiled)
        many(one, 5, stream())
        kinds = {node.attr["_XlaMustCompile"].b for node in _operations(one) if node.op.endswith("PartitionedCall")}
        assert (True in kinds) is compiled
        states.append(one.state())
    for name, value in states[0].items():
        np.testing.assert_allclose(states[1][name], value, rtol=1e-4, atol=1e-6, err_msg=name)
