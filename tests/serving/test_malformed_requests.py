"""Malformed requests get errors: the server neither ends nor grows. ``make fuzz`` sends 100,000."""

from __future__ import annotations

import random

import pytest
from fuzz_serving import attack_grpc, attack_http, open_files
from serving_kit import LiveServer

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]


def test_malformed_requests_are_answered_by_errors(server: LiveServer) -> None:
    front = min(server.descendants("saman.serving.front"))  # the other waits to replace it
    engines = server.descendants("saman.serving.engines")
    files = open_files(front)
    for attack, port in ((attack_http, server.port), (attack_grpc, server.grpc_port)):
        assert attack(port, 300, random.Random(7)).surprises == []
    assert server.get("/v1/models/images")[0] == 200
    server.wait(lambda: open_files(front) <= files + 5)  # connections are closed
    assert front in server.descendants("saman.serving.front")
    assert set(engines) <= set(server.descendants("saman.serving.engines"))


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(server: LiveServer) -> None:
    from fuzz_serving import send_http

    head = f"POST /v1/models/images:predict HTTP/1.1\r\ncontent-length: {1 << 40}\r\n\r\n"
    assert send_http(server.port, head.encode()).startswith(b"HTTP/1.1 413")
