"""The model that a front compiles for fixed batch sizes answers like the model of the engine process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

openvino = pytest.importorskip("openvino")

from saman.runs.engines.interface import COMPILED  # noqa: E402
from saman.serving.engines.openvino_engine import OpenVinoEngine, batch_sizes, load_batches  # noqa: E402


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
    fixed, variable = load_batches(path, 1, 5), OpenVinoEngine(path, 1)
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
        load_batches(tmp_path / "model.xml", 1, 4)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_a_computation_leaves_its_thread_on_the_cores_it_may_use(tmp_path: Path) -> None:
    """Binding and freeing a thread costs more than a small model, and moves it between cores."""
    program = (
        "import os, sys, ctypes, numpy as np\n"
        "from pathlib import Path\n"
        "from saman.serving.engines.openvino_engine import load_batches\n"
        "model = load_batches(Path(sys.argv[1]), 1, 1)\n"
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


def save_kept(folder: Path, *, is_mixed: bool = False) -> Path:
    """A model that a rehearsal has loaded, in a folder for what it compiles; a mixed answer depends on other rows."""
    ops = openvino.opset13
    a = ops.parameter([-1, 3], name="a")
    a.output(0).get_tensor().set_names({"a"})
    total = ops.reduce_sum(a, ops.constant(np.array([0])), True)
    answer = ops.add(a, total) if is_mixed else ops.multiply(a, ops.constant(np.float32(2)))
    answer.output(0).get_tensor().set_names({"y"})
    folder.mkdir()
    openvino.save_model(openvino.Model([answer], [a]), folder / "model.xml", compress_to_fp16=False)
    (folder / COMPILED).mkdir()
    return folder


@pytest.fixture
def folders_are_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO reads a SavedModel by its folder; here the folder holds OpenVINO's own format."""
    read = openvino.Core.read_model
    monkeypatch.setattr(openvino.Core, "read_model", lambda core, path: read(core, path / "model.xml"))


@pytest.mark.usefixtures("folders_are_models")
def test_a_front_reads_what_a_rehearsal_compiled_and_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_kept(tmp_path / "model")
    variable = OpenVinoEngine(path, 1, ahead=4)
    assert sorted(file.name for file in (path / COMPILED).iterdir()) == ["1.blob", "2.blob", "4.blob", "any.blob"]
    monkeypatch.setattr(openvino.Core, "read_model", None)  # neither reads the model again
    for engine in (variable, OpenVinoEngine(path, 1), load_batches(path, 1, 4)):
        for rows in (4, 1, 3):
            given = {"a": np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)}
            np.testing.assert_array_equal(engine.run("serving_default", given)["y"], 2 * given["a"])


@pytest.mark.usefixtures("folders_are_models")
def test_a_model_that_a_rehearsal_found_unfit_for_fronts_stays_in_its_engine_process(tmp_path: Path) -> None:
    path = save_kept(tmp_path / "model", is_mixed=True)
    OpenVinoEngine(path, 1, ahead=4)
    with pytest.raises(ValueError, match="suit"):
        load_batches(path, 1, 4)
    assert OpenVinoEngine(path, 1).run("serving_default", {"a": np.ones((2, 3), np.float32)})["y"].tolist() == 2 * [
        [3.0] * 3
    ]
