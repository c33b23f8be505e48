"""The model that a front compiles for fixed batch sizes answers like the model of the engine process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")

from saman.serving.engines.openvino_engine import OpenVinoBatches, OpenVinoEngine, batch_sizes  # noqa: E402


def save_model(folder: Path) -> Path:
    """Two inputs, two outputs, a variable batch size: y = relu(a·w + b), z = 2·b."""
    ops = openvino.opset13
    a, b = ops.parameter([-1, 3], name="a"), ops.parameter([-1, 2], name="b")
    for parameter, name in ((a, "a"), (b, "b")):
        parameter.output(0).get_tensor().set_names({name})
    weights = ops.constant(np.arange(6, dtype=np.float32).reshape(3, 2) - 3)
    outputs = ops.relu(ops.add(ops.matmul(a, weights, False, False), b)), ops.multiply(b, ops.constant(np.float32(2)))
    for output, name in zip(outputs, "yz", strict=True):
        output.output(0).get_tensor().set_names({name})
    openvino.save_model(openvino.Model(list(outputs), [a, b]), folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


def test_every_batch_size_up_to_the_limit_has_a_size_that_holds_it() -> None:
    assert [batch_sizes(rows) for rows in (1, 2, 3, 16, 20)] == [
        [1], [1, 2], [1, 2, 3], [1, 2, 4, 8, 16], [1, 2, 4, 8, 16, 20],
    ]  # fmt: skip


def test_a_batch_of_any_size_is_answered_like_by_the_variable_model(tmp_path: Path) -> None:
    path, random = save_model(tmp_path), np.random.default_rng(0)
    fixed, variable = OpenVinoBatches(path, 1, 5), OpenVinoEngine(path, 1)
    for rows in (5, 1, 4, 2, 3, 1):  # smaller batches meet the rows of larger ones
        inputs = {"a": random.normal(size=(rows, 3)), "b": random.normal(size=(rows, 2))}
        inputs = {name: array.astype(np.float32) for name, array in inputs.items()}
        found, expected = fixed.run("serving_default", inputs), variable.run("serving_default", inputs)
        assert found.keys() == {"y", "z"}
        for name, array in found.items():
            np.testing.assert_allclose(array, expected[name], rtol=1e-6)
    kept = fixed.run("serving_default", {"a": np.ones((1, 3), np.float32), "b": np.ones((1, 2), np.float32)})
    before = {name: array.copy() for name, array in kept.items()}
    fixed.run("serving_default", {"a": np.zeros((1, 3), np.float32), "b": np.zeros((1, 2), np.float32)})
    assert all((kept[name] == before[name]).all() for name in kept)  # an answer outlives the next batch


def test_a_model_whose_shapes_the_batch_does_not_settle_is_refused(tmp_path: Path) -> None:
    ops = openvino.opset13
    a = ops.parameter([-1, -1], name="a")
    a.output(0).get_tensor().set_names({"a"})
    openvino.save_model(openvino.Model([ops.relu(a)], [a]), tmp_path / "model.xml")
    with pytest.raises(ValueError, match="shapes"):
        OpenVinoBatches(tmp_path / "model.xml", 1, 4)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_computation_leaves_its_thread_on_the_cores_it_may_use(tmp_path: Path) -> None:
    """Binding and freeing a thread costs more than a small model, and moves it between cores."""
    program = (
        "import os, sys, ctypes, numpy as np\n"
        "from pathlib import Path\n"
        "from saman.serving.engines.openvino_engine import OpenVinoBatches\n"
        "model = OpenVinoBatches(Path(sys.argv[1]), 1, 1)\n"
        "inputs = {'a': np.zeros((1, 3), np.float32), 'b': np.zeros((1, 2), np.float32)}\n"
        "for _ in range(int(sys.argv[2])): model.run('serving_default', inputs)\n"
    )
    path, trace = save_model(tmp_path), tmp_path / "trace"
    counts = []
    for computations in (1, 51):
        command = [
            "strace",
            "-f",
            "-c",
            "-e",
            "trace=sched_setaffinity",
            "-o",
            str(trace),
            sys.executable,
            "-c",
            program,
        ]
        subprocess.run([*command, str(path), str(computations)], check=True, timeout=120)
        counts.append(sum(int(line.split()[3]) for line in trace.read_text().splitlines() if "sched_setaff" in line))
    assert counts[0] == counts[1]
