"""Classify, Regress and MultiInference of TensorFlow Serving's own stubs, with a SavedModel of TensorFlow 1."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from serving_kit import live_server, run_client
from tests.registry.registry_kit import finished_run

from saman.registry.lifecycle.publish import publish

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]
# y = x / 2 + 2, as TensorFlow Serving's half_plus_two.
MODEL = """
import sys, tensorflow as tf
tf1, kinds = tf.compat.v1, tf.compat.v1.saved_model.signature_def_utils
tf1.disable_eager_execution()
with tf1.Session(graph=tf1.Graph()) as session:
    half = tf1.get_variable("a", initializer=0.5)
    text, plain = tf1.placeholder(tf.string, [None]), tf1.placeholder(tf.float32, [None, 1])
    y = half * tf1.parse_example(text, {"x": tf1.FixedLenFeature([1], tf.float32)})["x"] + 2.0
    classes = tf.tile([["low", "high"]], [tf.shape(y)[0], 1])
    session.run(tf1.global_variables_initializer())
    builder = tf1.saved_model.Builder(sys.argv[1])
    builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map={
        "serving_default": kinds.predict_signature_def({"x": plain}, {"y": half * plain + 2.0}),
        "regress": kinds.regression_signature_def(text, y),
        "classify": kinds.classification_signature_def(text, classes, tf.concat([10.0 - y, y], 1))})
    builder.save()
"""
STUBS = """
import grpc, tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, prediction_service_pb2_grpc, regression_pb2
service = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel(sys.argv[2]))

def filled(request, signature=""):
    if signature:
        request.model_spec.name, request.model_spec.signature_name = "half", signature
    for x in (2.0, 10.0):
        example = request.input.example_list.examples.add()
        example.features.feature["x"].float_list.value.append(x)
    return request

def rows(result):
    return [{each.label: each.score for each in row.classes} for row in result.classifications]

regressed = service.Regress(filled(regression_pb2.RegressionRequest(), "regress"), 60)
classified = service.Classify(filled(classification_pb2.ClassificationRequest(), "classify"), 60)
both = filled(inference_pb2.MultiInferenceRequest())
for signature in ("regress", "classify"):
    task = both.tasks.add(method_name=f"tensorflow/serving/{signature}")
    task.model_spec.name, task.model_spec.signature_name = "half", signature
answer = service.MultiInference(both, 60)
both.tasks[1].model_spec.signature_name = "regress"
try:
    service.MultiInference(both, 60)
except grpc.RpcError as error:
    refused = error.code().name
print(json.dumps({
    "regressed": [each.value for each in regressed.result.regressions], "classified": rows(classified.result),
    "both": [[each.value for each in answer.results[0].regression_result.regressions],
             rows(answer.results[1].classification_result)],
    "versions": [result.model_spec.version.value for result in answer.results], "refused": refused}))
"""


def test_the_stubs_classify_regress_and_do_both_at_once(tmp_path: Path, client_packages: Path) -> None:
    run = finished_run(tmp_path, model="half")
    shutil.rmtree(run.export / "saved_model")
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    subprocess.run([sys.executable, "-c", MODEL, str(run.export / "saved_model")], check=True, env=environment,
                   capture_output=True)  # fmt: skip
    publish(run, tmp_path / "models")
    with live_server(tmp_path / "models", "half", "--engine", "tensorflow") as server:
        found = run_client(STUBS, client_packages, f"127.0.0.1:{server.grpc_port}")
    values, classes = [3.0, 7.0], [{"low": 7.0, "high": 3.0}, {"low": 3.0, "high": 7.0}]
    assert (found["regressed"], found["classified"]) == (values, classes)
    assert found["both"] == [values, classes] and found["versions"] == [1, 1]
    assert found["refused"] == "INVALID_ARGUMENT"
