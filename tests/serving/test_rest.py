"""A live server answers REST as TensorFlow Serving documents it."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_kit import LiveServer

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]
PREDICT = "/v1/models/images:predict"


@pytest.fixture(scope="module")
def sample(served_models: Path) -> Any:
    """Stored examples of version 1."""
    with np.load(served_models / "images" / "1" / "assets.extra" / "validation.npz") as stored:
        return stored["inputs"][:8]


def test_rows_and_columns_give_the_same_answers(server: LiveServer, sample: Any) -> None:
    status, rows = server.post(PREDICT, {"instances": sample.tolist()})
    assert status == 200
    assert np.array(rows["predictions"]).shape == (8, 10)
    assert np.array(rows["predictions"]).sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    for inputs in (sample.tolist(), {"inputs": sample.tolist()}):
        status, columns = server.post(PREDICT, {"inputs": inputs})
        assert (status, columns.keys()) == (200, {"outputs"})
        np.testing.assert_allclose(columns["outputs"], rows["predictions"], rtol=0, atol=1e-6)
    named = [{"inputs": row} for row in sample.tolist()]
    status, again = server.post(PREDICT, {"signature_name": "serving_default", "instances": named})
    np.testing.assert_allclose(again["predictions"], rows["predictions"], rtol=0, atol=1e-6)


def test_a_batch_answers_as_its_examples_alone(server: LiveServer, sample: Any) -> None:
    _, together = server.post(PREDICT, {"instances": sample.tolist()})
    alone = [server.post(PREDICT, {"instances": [row]})[1]["predictions"][0] for row in sample.tolist()]
    np.testing.assert_allclose(together["predictions"], alone, rtol=0, atol=1e-6)


def test_versions_and_labels_are_reached_by_their_paths(server: LiveServer, sample: Any) -> None:
    body = {"instances": sample[:1].tolist()}
    by = {place: server.post(f"/v1/models/images{place}:predict", body) for place in
          ("", "/versions/1", "/labels/stable", "/versions/2", "/labels/canary")}  # fmt: skip
    assert {status for status, _ in by.values()} == {200}
    values = {place: answer["predictions"] for place, (_, answer) in by.items()}
    for place, other in (("/versions/1", ""), ("/labels/stable", ""), ("/labels/canary", "/versions/2")):
        np.testing.assert_allclose(values[place], values[other], rtol=0, atol=1e-6)
    assert not np.allclose(values[""], values["/versions/2"], rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/models/none:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(none)"),
        ("/v1/models/images/versions/9:predict", {"instances": [1]}, 404,
         "Servable not found for request: Specific(images, 9)"),
        ("/v1/models/images/labels/none:predict", {"instances": [1]}, 400, "Unrecognized servable version label: none"),
        (PREDICT, b"", 400, "JSON Parse error: The document is empty"),
        (PREDICT, b"{", 400, "JSON Parse error"),
        (PREDICT, b"[" * 100_000, 400, "JSON Parse error"),
        (PREDICT, [1], 400, "Is not object"),
        (PREDICT, {}, 400, "Missing 'inputs' or 'instances' key"),
        (PREDICT, {"instances": []}, 400, "No values in 'instances' array"),
        (PREDICT, {"instances": 3}, 400, "Excepting 'instances' to be an list/array"),
        (PREDICT, {"instances": [1], "inputs": [1]}, 400, "expecting only one of 'inputs' or 'instances' keys"),
        (PREDICT, {"signature_name": 3, "instances": [1]}, 400, "'signature_name' key must be a string value."),
        (PREDICT, {"signature_name": "no", "instances": [1]}, 400,
         'Serving signature name: "no" not found in signature def'),
        (PREDICT, {"instances": [[[1, 2], [3]]]}, 400, "Encountered list at unexpected size: 1 at level: 1"),
        (PREDICT, {"instances": ["a"]}, 400, 'JSON Value: "a" Type: String is not of expected type'),
        (PREDICT, {"inputs": {"other": 1}}, 400, "Missing named input: inputs in 'inputs' object."),
        (PREDICT, {"instances": [{"x": 1}]}, 400, "JSON object: does not have named input: x"),
        (PREDICT, {"instances": [[1.0, 2.0]]}, 400, ""),
        ("/v1/models/images:classify", {"examples": [{"x": 1.0}]}, 400,
         "Expected classification signature method_name to be tensorflow/serving/classify"),
        ("/v1/models/images:regress", {"examples": [{"x": 1.0}]}, 400,
         "Expected regression signature method_name to be tensorflow/serving/regress"),
        ("/v1/models/images:classify", {}, 400, "key 'examples' is expected and was not found"),
        ("/v1/models/images:explain", {}, 400, "Malformed request: POST /v1/models/images:explain"),
        ("/v1/nothing", {}, 400, "Malformed request: POST /v1/nothing"),
    ],
)  # fmt: skip
def test_a_mistake_gets_the_status_and_the_text_of_tensorflow_serving(
    server: LiveServer, path: str, body: Any, status: int, message: str
) -> None:
    found, answer = server.post(path, body)
    assert found == status
    assert message in answer["error"]


def test_status_and_metadata_are_those_of_the_documentation(server: LiveServer) -> None:
    available = {"state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    rows = [{"version": "2", **available}, {"version": "1", **available}]
    assert server.get("/v1/models/images") == (200, {"model_version_status": rows})
    assert server.get("/v1/models/images/labels/stable") == (200, {"model_version_status": rows[1:]})
    assert server.get("/v1/models/images/versions/7")[0] == 404
    assert server.get("/v1/models/none") == (404, {"error": "Could not find any versions of model none"})
    status, about = server.get("/v1/models/images/metadata")
    assert (status, about["model_spec"]) == (200, {"name": "images", "signature_name": "", "version": "1"})
    signature = about["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["method_name"] == "tensorflow/serving/predict"
    assert [dim["size"] for dim in signature["inputs"]["inputs"]["tensor_shape"]["dim"]][0] == "-1"


def test_metrics_have_the_names_of_tensorflow_serving(server: LiveServer, sample: Any) -> None:
    server.post(PREDICT, {"instances": sample.tolist()})
    server.post("/v1/models/invented:predict", {"instances": [1]})
    _, page = server.get("/monitoring/prometheus/metrics")
    assert ':tensorflow:serving:request_count{model_name="images",status="OK"}' in page
    assert ':tensorflow:serving:request_latency_count{model_name="images",API="Predict",entrypoint="REST"}' in page
    assert ':tensorflow:serving:runtime_latency_bucket{model_name="images"' in page
    assert "invented" not in page  # a client cannot make series


def test_openapi_describes_requests_that_work(server: LiveServer, sample: Any) -> None:
    _, page = server.get("/v1/models/images/openapi.json")
    body = page["paths"][PREDICT]["post"]["requestBody"]["content"]["application/json"]["schema"]
    rows = body["oneOf"][0]["properties"]["instances"]
    assert rows["items"]["minItems"] == rows["items"]["maxItems"] == sample.shape[1]
    assert rows["items"]["items"]["minItems"] == sample.shape[2]
    assert 'inputs["inputs"]: TensorProto' in server.get("/v1/models/images/proto")[1]


def test_the_curl_line_that_is_printed_works(server: LiveServer) -> None:
    line = next(line for line in server.lines if line.lstrip().startswith("curl"))
    done = subprocess.run(["bash", "-c", line.strip().replace("curl", "curl -sf", 1)], capture_output=True, check=True)
    assert len(json.loads(done.stdout)["predictions"][0]) == 10


def test_a_request_keeps_its_identifier(server: LiveServer, sample: Any) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    for asked in ("my-request-7", "bad\x01"):
        connection.request("POST", PREDICT, json.dumps({"instances": sample[:1].tolist()}), {"x-request-id": asked})
        answer = connection.getresponse()
        answer.read()
        assert (answer.headers["x-request-id"] == asked) == (asked == "my-request-7")


def test_base64_is_refused_where_numbers_are_wanted(server: LiveServer) -> None:
    value = {"b64": base64.b64encode(b"x").decode()}
    status, answer = server.post(PREDICT, {"instances": [value]})
    assert status == 400 and "not of expected type" in answer["error"]
