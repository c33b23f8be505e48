"""Independent clients get answers: TensorFlow Serving's own stubs, and OpenVINO's client for its interface."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from serving_kit import LiveServer, run_client

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]

STUBS = """
import grpc, numpy as np, tensorflow as tf
from tensorflow_serving.apis import (classification_pb2, get_model_metadata_pb2, get_model_status_pb2, predict_pb2,
    model_management_pb2, model_service_pb2_grpc, prediction_service_pb2_grpc)
channel = grpc.insecure_channel(sys.argv[2])
service = prediction_service_pb2_grpc.PredictionServiceStub(channel)
models = model_service_pb2_grpc.ModelServiceStub(channel)
inputs = np.load(sys.argv[3])["inputs"][:4]
found = {}

def predict(**spec):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = spec.get("name", "images")
    if "version" in spec: request.model_spec.version.value = spec["version"]
    if "label" in spec: request.model_spec.version_label = spec["label"]
    request.model_spec.signature_name = spec.get("signature", "")
    request.inputs[spec.get("input", "inputs")].CopyFrom(tf.make_tensor_proto(spec.get("value", inputs)))
    request.output_filter.extend(spec.get("filter", []))
    return service.Predict(request, 60)

def refusal(call):
    try:
        call()
    except grpc.RpcError as error:
        return [error.code().name, error.details()]

answer = predict()
found["values"] = tf.make_ndarray(answer.outputs["outputs"]).tolist()
found["float_val"] = len(answer.outputs["outputs"].float_val)
found["spec"] = [answer.model_spec.name, answer.model_spec.version.value, answer.model_spec.signature_name]
found["label"] = predict(label="canary").model_spec.version.value
found["filtered"] = list(predict(filter=["outputs"]).outputs)
found["refusals"] = {
    "version": refusal(lambda: predict(version=9)), "label": refusal(lambda: predict(label="none")),
    "name": refusal(lambda: predict(name="none")), "signature": refusal(lambda: predict(signature="none")),
    "input": refusal(lambda: predict(input="other")), "type": refusal(lambda: predict(value=inputs.astype("float64"))),
    "shape": refusal(lambda: predict(value=inputs[:, 0])), "filter": refusal(lambda: predict(filter=["none"])),
}
request = classification_pb2.ClassificationRequest()
request.model_spec.name = "images"
request.input.example_list.examples.add().features.feature["x"].float_list.value.append(1.0)
found["refusals"]["classify"] = refusal(lambda: service.Classify(request, 60))
status = get_model_status_pb2.GetModelStatusRequest()
status.model_spec.name = "images"
found["status"] = [[row.version, row.state, row.status.error_code]
                   for row in models.GetModelStatus(status, 60).model_version_status]
about = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
about.model_spec.name = "images"
signatures = get_model_metadata_pb2.SignatureDefMap()
service.GetModelMetadata(about, 60).metadata["signature_def"].Unpack(signatures)
found["signatures"] = {name: list(each.inputs) for name, each in signatures.signature_def.items()
                       if not name.startswith("__")}
reload = model_management_pb2.ReloadConfigRequest()
reload.config.model_config_list.config.add(name="images")
found["reload"] = models.HandleReloadConfigRequest(reload, 60).status.error_code
reload.config.model_config_list.config.add(name="none")
found["reload_unknown"] = models.HandleReloadConfigRequest(reload, 60).status.error_code
health = channel.unary_unary("/grpc.health.v1.Health/Check")
found["health"] = list(health(b"", timeout=60))
print(json.dumps(found))
"""


def test_tensorflow_servings_own_stubs_get_its_answers(
    server: LiveServer, served_models: Path, client_packages: Path
) -> None:
    sample = served_models / "images" / "1" / "assets.extra" / "validation.npz"
    found = run_client(STUBS, client_packages, f"127.0.0.1:{server.grpc_port}", str(sample))
    with np.load(sample) as stored:
        rest = server.post("/v1/models/images:predict", {"instances": stored["inputs"][:4].tolist()})[1]
    np.testing.assert_allclose(found["values"], rest["predictions"], atol=1e-6)
    assert found["float_val"] == 40  # as TensorFlow Serving: in the field of the type
    assert found["spec"] == ["images", 1, "serving_default"]
    assert (found["label"], found["filtered"]) == (2, ["outputs"])
    codes = {name: code for name, (code, _) in found["refusals"].items()}
    assert codes == {
        "version": "NOT_FOUND", "label": "INVALID_ARGUMENT", "name": "NOT_FOUND", "signature": "FAILED_PRECONDITION",
        "input": "INVALID_ARGUMENT", "type": "INVALID_ARGUMENT", "shape": "INVALID_ARGUMENT",
        "filter": "INVALID_ARGUMENT", "classify": "INVALID_ARGUMENT",
    }  # fmt: skip
    assert found["refusals"]["version"][1] == "Servable not found for request: Specific(images, 9)"
    assert found["refusals"]["input"][1].endswith("Sent extra: {other}. Missing but required: {inputs}.")
    assert found["status"] == [[2, 30, 0], [1, 30, 0]]
    assert found["signatures"] == {"serving_default": ["inputs"]}
    assert (found["reload"], found["reload_unknown"]) == (0, 5)
    assert found["health"] == [8, 1]  # HealthCheckResponse {status: SERVING}


OVMS = """
import numpy as np
from ovmsclient import make_grpc_client
client = make_grpc_client(sys.argv[2])
inputs = np.load(sys.argv[3])["inputs"][:4]
status = client.get_model_status("images")
about = client.get_model_metadata("images")
print(json.dumps([client.predict({"inputs": inputs}, "images").tolist(), sorted(status),
                  list(about["inputs"]), about["model_version"]]))
"""


def test_ovmsclient_gets_answers(server: LiveServer, served_models: Path, client_packages: Path) -> None:
    sample = served_models / "images" / "1" / "assets.extra" / "validation.npz"
    address = f"127.0.0.1:{server.grpc_port}"
    values, versions, inputs, version = run_client(OVMS, client_packages, address, str(sample))
    assert np.array(values).shape == (4, 10)
    assert ([int(number) for number in versions], inputs, version) == ([1, 2], ["inputs"], 1)
