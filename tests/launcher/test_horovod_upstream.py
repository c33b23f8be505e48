"""The TensorFlow 2 examples, the TensorFlow tests and the Keras tests of Horovod's own repository, on two ranks.

They need a checkout of Horovod (its source distribution has neither), which SAMAN_HOROVOD_SOURCE names, and for the
tests the packages parameterized, mock and cloudpickle; the example with a data service needs filelock. An example runs
unmodified, or ends with a line that names --legacy-keras and runs with it. A test is changed only where it calls
Keras 2 itself: KERAS_CHANGES and TENSORFLOW_CHANGES are the whole list.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

pytestmark = [pytest.mark.ranks, pytest.mark.tensorflow, pytest.mark.slow]

SOURCE = Path(os.environ.get("SAMAN_HOROVOD_SOURCE", "/nonexistent"))
if not SOURCE.is_dir():
    pytest.skip("SAMAN_HOROVOD_SOURCE names no checkout of Horovod", allow_module_level=True)
SCRIPT = Path(__file__).parent / "scripts" / "horovod_example.py"
SMALL = ["--no-cuda", "--model", "MobileNetV2", "--batch-size", "4", "--num-iters", "2", "--num-batches-per-iter", "2"]
# Example -> its arguments, and what it calls that Keras 3 has removed.
EXAMPLES: dict[str, tuple[list[str], str | None]] = {
    "tensorflow2/tensorflow2_keras_mnist.py": ([], "keras.optimizers.legacy"),
    "tensorflow2/tensorflow2_mnist.py": ([], "not callable"),
    "tensorflow2/tensorflow2_keras_synthetic_benchmark.py": (SMALL, "experimental_run_tf_function"),
    "tensorflow2/tensorflow2_synthetic_benchmark.py": ([*SMALL, "--num-warmup-batches", "1"], "not callable"),
    "elastic/tensorflow2/tensorflow2_mnist_elastic.py": ([], None),
    "elastic/tensorflow2/tensorflow2_keras_mnist_elastic.py": ([], "experimental_run_tf_function"),
}
# Its ranks read the data from a service of two other ranks, which have to run beside it.
DATA_SERVICE = "tensorflow2/tensorflow2_mnist_data_service.py"
# Of test/parallel/test_tensorflow2_keras.py, each pattern a call that Keras 3 has removed, and its successor.
KERAS_CHANGES = [
    (r"\.optimizers\.legacy\.", ".optimizers."),  # the only optimizers are the new ones
    (r"from keras\.optimizers\.optimizer_v2 import optimizer_v2", "from keras import optimizers as optimizer_v2"),
    (r"optimizer_v2\.OptimizerV2", "optimizer_v2.Optimizer"),
    (r'TestingOptimizer\("test"\)', "TestingOptimizer(1.0)"),  # an optimizer has a learning rate
    (r"def _resource_apply_dense\(self, grad, var, apply_state=None\)", "def update_step(self, grad, var, rate)"),
    (r"\(lr=", "(learning_rate="),
    (r", input_length=10", ""),
    (r",\s+experimental_run_tf_function=False", ""),
    (r",\s+experimental_aggregate_gradients=False", ""),
    (r"(?<!tf\.)keras\.losses\.mean_squared_error", "keras.losses.MeanSquaredError()"),
    (r"ThresholdedReLU\(0\.5\)", "ReLU(threshold=0.5)"),
    (r"\bvar\.ref\(\)", "var.value.ref()"),  # a Keras variable is no tf.Variable
]
# The same of test/parallel/test_tensorflow.py.
TENSORFLOW_CHANGES = [
    (r"BatchNormalization\(axis=1, fused=False\)", "BatchNormalization(axis=1)"),
    (r"\bvar\.ref\(\)", "var.value.ref()"),
    (r"bn\.(moving_mean|moving_variance)\)", r"bn.\1.value)"),  # a TF 1 session fetches no Keras variable
]


def saman(*words: str) -> list[str]:
    return [sys.executable, "-m", "saman", "run", "-np", "2", "--all-ranks", *words]


def start(folder: Path, *words: str, seconds: float = 280) -> subprocess.CompletedProcess[str]:
    return subprocess.run(saman(*words), cwd=folder, capture_output=True, text=True, timeout=seconds)


def check(done: subprocess.CompletedProcess[str], removed: str | None) -> None:
    said = done.stdout + done.stderr
    if removed is None:
        assert done.returncode == 0, said[-3000:]
    else:
        assert done.returncode == 1
        assert any("--legacy-keras" in line and removed in line for line in said.splitlines()), said[-3000:]


@pytest.mark.parametrize("legacy", [False, True], ids=["keras-3", "legacy-keras"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.rsplit("/", 1)[-1])
def test_an_example_runs_unmodified_or_names_the_option_that_runs_it(
    tmp_path: Path, example: str, legacy: bool
) -> None:
    arguments, removed = EXAMPLES[example]
    options = ["--legacy-keras"] if legacy else []
    done = start(tmp_path, *options, "--", "python", str(SCRIPT), str(SOURCE / "examples" / example), *arguments)
    check(done, None if legacy else removed)


@pytest.mark.skipif(find_spec("filelock") is None, reason="the example needs the package filelock")
@pytest.mark.parametrize("legacy", [False, True], ids=["keras-3", "legacy-keras"])
@pytest.mark.parametrize(
    ("side", "number", "removed"),
    [("compute", "1", "keras.optimizers.legacy"), ("training", "2", "experimental_run_tf_function")],
    ids=["dispatcher-at-the-service", "dispatchers-at-the-ranks"],
)
def test_an_example_trains_from_a_data_service_of_other_ranks(
    tmp_path: Path, side: str, number: str, removed: str, legacy: bool
) -> None:
    settings = str(tmp_path / "compute.json")
    served = ["horovod.tensorflow.data.compute_worker", settings, "--dispatchers", number, "--dispatcher-side", side]
    options = ["--legacy-keras"] if legacy else []
    (tmp_path / "service").mkdir()
    service = subprocess.Popen(saman("--", "python", "-m", *served), cwd=tmp_path / "service")
    try:
        example = str(SOURCE / "examples" / DATA_SERVICE)
        done = start(tmp_path, *options, "--", "python", str(SCRIPT), example, settings)
        check(done, None if legacy else removed)
        assert not legacy or service.wait(timeout=60) == 0  # the example ends the service
    finally:
        service.terminate()
        service.wait(timeout=60)


def changed(text: str, changes: list[tuple[str, str]]) -> str:
    for pattern, successor in changes:
        text, count = re.subn(pattern, successor, text)
        assert count, f"{pattern} no longer occurs: take it from the list"
    return text


def passed(folder: Path, name: str, changes: list[tuple[str, str]]) -> list[int]:
    """Changes a test file of Horovod and runs it beside its neighbours.

    Returns:
        The number of tests that passed, per rank.
    """
    shutil.copytree(SOURCE / "test", folder / "test")
    tests = folder / "test" / "parallel"
    (tests / name).write_text(changed((tests / name).read_text("utf-8"), changes), "utf-8")
    done = start(tests, "--", "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", name, seconds=1200)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-6000:]
    return [int(number) for number in re.findall(r"\b(\d+) passed", said)][:2]


@pytest.mark.skipif(find_spec("parameterized") is None, reason="Horovod's tests need the package parameterized")
def test_horovods_keras_tests_pass_with_the_list_of_changes(tmp_path: Path) -> None:
    assert passed(tmp_path, "test_tensorflow2_keras.py", KERAS_CHANGES) == [12, 12]


@pytest.mark.timeout(1260)
@pytest.mark.skipif(find_spec("mock") is None, reason="Horovod's tests need the package mock")
def test_horovods_tensorflow_tests_pass_with_the_list_of_changes(tmp_path: Path) -> None:
    first, second = passed(tmp_path, "test_tensorflow.py", TENSORFLOW_CHANGES)
    assert first == second >= 90
