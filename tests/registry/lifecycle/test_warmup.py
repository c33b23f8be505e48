"""Warm-up requests hold the stored examples, in the format that TensorFlow Serving reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from registry_kit import published

from saman.registry.lifecycle.promotion import promote
from saman.registry.store import protobuf


def test_warm_up_requests_hold_the_stored_examples(tmp_path: Path) -> None:
    version = published(tmp_path)
    logs = list(protobuf.read_tfrecords((version.path / "assets.extra/tf_serving_warmup_requests").read_bytes()))
    assert len(logs) == 2
    [(field, log)] = protobuf.fields(logs[1])
    assert field == 6
    [(_, request)] = protobuf.fields(bytes(log))
    spec, entry = (bytes(value) for _, value in protobuf.fields(bytes(request)))
    assert dict(protobuf.fields(spec)) == {1: b"digits", 3: b"serving_default"}
    tensor = dict(protobuf.fields(bytes(dict(protobuf.fields(entry))[2])))
    assert tensor[1] == 1 and len(bytes(tensor[4])) == 8 * 64 * 4


def test_the_crc_is_the_one_of_the_standard() -> None:
    assert protobuf.crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C


@pytest.mark.tensorflow
@pytest.mark.slow
def test_tensorflow_serving_reads_the_warm_up_requests_and_models_config(tmp_path: Path, foreign: Path) -> None:
    """Its own message classes, in a process of their own, for their TensorFlow must be imported first."""
    version = published(tmp_path)
    promote(tmp_path / "models", "digits:1")
    program = (
        "import sys, json; sys.path.append(sys.argv[2])\n"
        "import tensorflow as tf\n"
        "from tensorflow_serving.apis import prediction_log_pb2\n"
        "for record in tf.data.TFRecordDataset(sys.argv[1]):\n"
        "    log = prediction_log_pb2.PredictionLog.FromString(record.numpy())\n"
        "    request = log.predict_log.request\n"
        "    value = tf.make_ndarray(request.inputs['inputs'])\n"
        "    spec = request.model_spec\n"
        "    print(json.dumps([spec.name, spec.signature_name, value.shape, float(value.sum())]))\n"
        "from google.protobuf import text_format\n"
        "from tensorflow_serving.config import model_server_config_pb2\n"
        "text = open(sys.argv[3]).read()\n"
        "[config] = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config\n"
        "versions = list(config.model_version_policy.specific.versions)\n"
        "labels = dict(config.version_labels)\n"
        "print(json.dumps([config.name, config.base_path, config.model_platform, versions, labels]))\n"
    )
    packages = next((foreign / "lib").glob("python3*")) / "site-packages"
    command = [sys.executable, "-c", program, str(version.path / "assets.extra/tf_serving_warmup_requests")]
    config = str(tmp_path / "models" / "models.config")
    done = subprocess.run([*command, str(packages), config], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1500:]
    with np.load(version.path / "assets.extra/validation.npz") as stored:
        sums = [float(stored["inputs"][:count].sum()) for count in (1, 8)]
    *found, served = [json.loads(line) for line in done.stdout.strip().splitlines()]
    assert served == ["digits", str(tmp_path / "models" / "digits"), "tensorflow", [1], {"stable": 1}]
    assert found == [["digits", "serving_default", [n, 8, 8], total] for n, total in zip((1, 8), sums, strict=True)]
