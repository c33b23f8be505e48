"""Data in a whole run: the test split, weights, and damage that only reading finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_starts import distance, final, make_run

from saman.configs.errors import UserError
from saman.configs.schemas.experiment import Experiment
from saman.runs.folder import RunFolder

tf = pytest.importorskip("tensorflow")

from saman.trainers.strategies.single import SingleStrategy  # noqa: E402
from saman.trainers.training import train  # noqa: E402

pytestmark = pytest.mark.tensorflow


class Silence:
    """Takes no note of the progress."""

    def note_pace(self, busy_seconds: float | None, stage: int | None) -> None: ...

    def beat(self, phase: str, step: int = 0, epoch: int = 0, total_steps: int | None = None) -> None: ...


def run(folder: Path, data: dict[str, Any], exported: bool = False, **values: Any) -> tuple[RunFolder, Any]:
    settings = {"strategy": "single", "global_batch_size": 12, "epochs": 2, "learning_rate": 0.1, **values}
    model = {"build": "mlp", "args": {"classes": 4, "hidden": [8]}}
    experiment = Experiment.model_validate({"name": "data", "model": model, "data": data, "train": settings})
    made = make_run(folder, experiment)
    return made, train(made, made.experiment(), SingleStrategy(), 1, Silence(), exported).loop


@pytest.fixture
def arrays(tmp_path: Path) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 100).astype("int32")
    np.save(tmp_path / "x.npy", (rng.normal(size=(100, 5)) + labels[:, None]).astype("float32"))
    np.save(tmp_path / "y.npy", labels)
    np.save(tmp_path / "w.npy", rng.random(100).astype("float32"))
    return {part: str(tmp_path / f"{name}.npy") for part, name in (("inputs", "x"), ("labels", "y"), ("weights", "w"))}


def test_only_the_final_model_sees_the_test_examples(tmp_path: Path, arrays: dict[str, Any]) -> None:
    del arrays["weights"]
    data = {"source": "numpy", "args": {"train": arrays}, "test_fraction": 0.2}
    made, loop = run(tmp_path, data, exported=True)
    metrics = loop.position.metrics
    assert {"test_loss", "test_accuracy", "val_loss", "loss"} <= set(metrics)
    epochs = [event.facts["metrics"] for event in made.events() if event.kind == "epoch"]
    assert len(epochs) == 2 and not any(name.startswith("test_") for epoch in epochs for name in epoch)
    [exported] = [event for event in made.events() if event.kind == "exported"]
    assert exported.facts["metrics"] == metrics
    tested = {name: value for name, value in metrics.items() if name.startswith("test_")}
    assert [event.facts["metrics"] for event in made.events() if event.kind == "tested"] == [tested]
    with pytest.raises(ValueError, match="test_loss"):
        run(tmp_path, data, early_stop={"metric": "test_loss"})


def test_weighted_examples_make_the_same_steps_however_a_batch_is_cut(tmp_path: Path, arrays: dict[str, Any]) -> None:
    data = {"source": "numpy", "args": {"train": arrays}, "class_weights": {1: 3.0}}
    whole, cut, plain = (
        final(run(tmp_path, {**data, "class_weights": classes}, micro_batches=parts)[0])
        for parts, classes in ((1, {1: 3.0}), (3, {1: 3.0}), (1, None))
    )
    assert distance(whole, cut) < 1e-6 < distance(whole, plain)


def test_a_damaged_record_ends_the_run_in_a_line_with_file_and_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAMAN_CACHE_DIR", str(tmp_path / "cache"))
    path = tmp_path / "some.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as file:
        for number in range(50):
            x = tf.train.Feature(float_list=tf.train.FloatList(value=[number, 1.0]))
            label = tf.train.Feature(int64_list=tf.train.Int64List(value=[number % 4]))
            example = tf.train.Example(features=tf.train.Features(feature={"x": x, "label": label}))
            file.write(example.SerializeToString())
    content = bytearray(path.read_bytes())
    content[-6] ^= 1
    path.write_bytes(content)
    features = {"x": {"dtype": "float32", "shape": [2]}, "label": {"dtype": "int64"}}
    args = {"train": str(path), "features": features, "inputs": "x"}
    with pytest.raises(UserError, match="checksum of a record is wrong") as failure:
        run(tmp_path, {"source": "tfrecord", "args": args, "validation_fraction": 0})
    assert failure.value.where is not None and failure.value.where.endswith(", record 49")
    made, _ = run(tmp_path, {"source": "tfrecord", "args": args, "validation_fraction": 0, "on_corrupt": "skip"})
    notices = [str(event.facts["text"]) for event in made.events() if event.kind == "notice"]
    assert any("1 damaged examples or files are left out" in text and str(path) in text for text in notices)
