"""Two inputs and two outputs keep their names through batch inference and the formats."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest

tf = pytest.importorskip("tensorflow")

from saman.registry.evaluation.converter_process import run_converter  # noqa: E402
from saman.registry.formats.conversion import FORMATS  # noqa: E402
from saman.runs.records.inference import InferencePaths, InferenceRequestRecord, NamedInput  # noqa: E402
from saman.trainers.convert import runtimes  # noqa: E402
from saman.trainers.convert.formats import convert  # noqa: E402
from saman.trainers.convert.predict import caller  # noqa: E402
from saman.trainers.convert.sample_answers import write_answers  # noqa: E402
from saman.trainers.infer import work  # noqa: E402
from saman.trainers.infer.job import write_plan  # noqa: E402

pytestmark = pytest.mark.tensorflow

ROWS = 9
IMAGES = np.random.default_rng(0).normal(size=(ROWS, 2, 2)).astype("float32")
KINDS = np.arange(ROWS, dtype="int32")
LABEL = np.stack([IMAGES.sum((1, 2)), KINDS - IMAGES.sum((1, 2))], 1)
SIZE = 10.0 * KINDS + IMAGES[:, 0, 0]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model whose inputs must not be mixed up, as an export writes it: the first output under both names."""
    module = tf.Module()
    module.scale = tf.Variable(10.0)

    def serve(image: tf.Tensor, kind: tf.Tensor) -> dict[str, tf.Tensor]:
        number, total = tf.cast(kind, tf.float32), tf.reduce_sum(image, [1, 2])
        label = tf.stack([total, number - total], 1)
        return {"outputs": tf.identity(label), "label": label, "size": module.scale * number + image[:, 0, 0]}

    specs = [tf.TensorSpec([None, 2, 2], tf.float32, "image"), tf.TensorSpec([None], tf.int32, "kind")]
    folder = tmp_path_factory.mktemp("model")
    tf.saved_model.save(module, str(folder), signatures={"serving_default": tf.function(serve, input_signature=specs)})
    return folder


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """The stored sample of the version."""
    file = tmp_path / "validation.npz"
    np.savez(file, image=IMAGES, kind=KINDS, labels=np.zeros(ROWS), ids=np.zeros(ROWS))
    return file


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_batch_inference_writes_a_column_for_every_output(
    tmp_path: Path, model: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_load_model", lambda job: caller(job.model))  # threads of this process are set already
    rows = tmp_path / f"rows.{kind}"
    if kind == "npz":
        np.savez(rows, image=IMAGES, kind=KINDS)
    else:
        pl.DataFrame({"kind": KINDS, "image": IMAGES.reshape(ROWS, -1).tolist()}).write_parquet(rows)
    output, job = tmp_path / "answers.parquet", InferencePaths(tmp_path / "job")
    job.path.mkdir()
    others = (NamedInput("kind", "int32", ()),)
    InferenceRequestRecord(
        str(model), "0" * 64, (str(rows),), str(output), "image", "float32", (2, 2), 2, 4, others
    ).write(job.request)
    write_plan(job.path)
    for rank in (1, 0):
        work.work(job.path, rank, 2)
    found = pl.read_parquet(output)
    assert found["error"].null_count() == ROWS
    assert np.allclose(found["label"].to_list(), LABEL) and np.allclose(found["outputs"].to_list(), LABEL)
    assert np.allclose(found["size"].list.first(), SIZE)
    assert found["prediction"].to_list() == LABEL.argmax(1).tolist()


def test_the_parity_of_a_conversion_sees_every_output(tmp_path: Path, model: Path) -> None:
    call = caller(model)
    write_answers(call, {"image": IMAGES, "kind": KINDS}, tmp_path / "a.npy", runs=0)
    assert np.allclose(np.load(tmp_path / "a.npy"), LABEL)
    assert np.allclose(np.load(tmp_path / "a.others.npy"), np.concatenate([LABEL, SIZE[:, None]], 1))


@pytest.mark.parametrize("name", ["tflite-float32", "tflite-int8"])
def test_a_converted_model_keeps_the_names_of_inputs_and_outputs(
    tmp_path: Path, model: Path, sample: Path, name: str
) -> None:
    convert(name, model, tmp_path / "out", sample)
    runner = tf.lite.Interpreter(str(tmp_path / "out" / "model.tflite")).get_signature_runner("serving_default")
    assert set(runner.get_input_details()) == {"image", "kind"}
    found = runner(image=IMAGES[:1], kind=KINDS[:1])
    assert set(found) == {"outputs", "label", "size"}
    if name == "tflite-float32":
        assert np.allclose(found["label"], LABEL[:1], atol=1e-5) and np.allclose(found["size"], SIZE[:1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.keras(3)  # the converters' packages are those for the current TensorFlow
@pytest.mark.parametrize("name", ["onnx", "tfjs"])
def test_the_runtime_of_a_format_gets_every_input_and_gives_every_output(
    tmp_path: Path, model: Path, sample: Path, name: str
) -> None:
    if name == "tfjs" and shutil.which("npm") is None:
        pytest.skip("no Node.js here")
    out, answers, packages = tmp_path / "out", tmp_path / "answers.npy", FORMATS[name]
    run_converter(["to", name, "--model", str(model), "--output", str(out), "--inputs", str(sample)], packages)
    run_converter(["run", name, "--model", str(out), "--output", str(answers), "--inputs", str(sample)], packages)
    assert np.allclose(np.load(answers), LABEL, atol=1e-5)
    others = np.load(tmp_path / "answers.others.npy")
    assert np.allclose(others, np.concatenate([LABEL, SIZE[:, None]], 1), atol=1e-5)


@pytest.mark.keras(3)
def test_a_keras_file_gets_its_inputs_by_name(tmp_path: Path, sample: Path) -> None:
    keras = tf.keras
    image, kind = keras.Input((2, 2), name="image"), keras.Input((), name="kind")
    total = keras.layers.Flatten()(image)
    joined = keras.layers.Concatenate()([keras.layers.Reshape((1,))(kind), total])
    built = keras.Model({"kind": kind, "image": image}, keras.layers.Dense(1, kernel_initializer="ones")(joined))
    built.save(tmp_path / "model.keras")
    runtimes.answer("keras", tmp_path, tmp_path / "answers.npy", sample, 0)
    expected = IMAGES.sum((1, 2)) + KINDS
    assert np.allclose(np.load(tmp_path / "answers.npy")[:, 0], expected, atol=1e-5)
