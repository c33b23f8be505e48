"""TLS and tokens on a live server, over REST and gRPC."""

from __future__ import annotations

import http.client
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from serving_kit import LiveServer, live_server

from saman.serving.front.access import add_token
from saman.serving.interface.messages import message_class

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of 127.0.0.1; its key stands beside it."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem",
         "-out", folder / "certificate.pem"], check=True, capture_output=True)  # fmt: skip
    return folder / "certificate.pem"


@pytest.fixture(scope="module")
def secured(served_models: Path, certificate: Path) -> Iterator[tuple[LiveServer, str]]:
    """A server beyond localhost, and a token."""
    tokens = certificate.with_name("tokens")
    token = add_token(tokens, "test")
    key = str(certificate.with_name("key.pem"))
    with live_server(served_models, "images:1", "--engine", "openvino", "--host", "0.0.0.0", "--tokens", str(tokens),
                     "--certificate", str(certificate), "--key", key) as server:  # fmt: skip
        yield server, token


def get(server: LiveServer, context: ssl.SSLContext, token: str | None) -> int:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=60, context=context)
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    connection.request("GET", "/v1/models/images", headers=headers)
    return connection.getresponse().status


def test_rest_answers_over_tls_whom_it_knows(secured: tuple[LiveServer, str], certificate: Path) -> None:
    server, token = secured
    trusting = ssl.create_default_context(cafile=str(certificate))
    assert [get(server, trusting, each) for each in (token, None, token[:-1])] == [200, 401, 401]
    with pytest.raises(ssl.SSLCertVerificationError):
        get(server, ssl.create_default_context(), token)
    plain = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with pytest.raises((http.client.HTTPException, OSError)):
        plain.request("GET", "/v1/models/images")
        plain.getresponse()


def test_grpc_answers_over_tls_whom_it_knows(secured: tuple[LiveServer, str], certificate: Path) -> None:
    server, token = secured
    credentials = grpc.ssl_channel_credentials(certificate.read_bytes())
    request = message_class("GetModelStatusRequest")()
    request.model_spec.name = "images"
    with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials) as channel:
        ask = channel.unary_unary(
            "/tensorflow.serving.ModelService/GetModelStatus",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_class("GetModelStatusResponse").FromString,
        )
        answer = ask(request, metadata=[("authorization", f"Bearer {token}")], timeout=60)
        assert [row.version for row in answer.model_version_status] == [1]
        with pytest.raises(grpc.RpcError) as refusal:
            ask(request, timeout=60)
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
