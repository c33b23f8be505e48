"""Malformed requests against a live server: no crash, no leak, no answer but an error, bounded memory.

``python -m tests.serving.fuzz_serving [COUNT]`` (``make fuzz``) starts a server and sends COUNT of them, 100,000 unless
said otherwise; the suite sends some hundreds.
"""

from __future__ import annotations

import contextlib
import json
import random
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BODIES: tuple[bytes, ...] = (
    b'{"instances": [[1, 2], [3, 4]]}',
    b'{"inputs": {"inputs": [[[1.5, NaN, -Infinity]]]}}',
    b'{"signature_name": "serving_default", "instances": [{"b64": "AAAA"}]}',
    b'{"context": {"a": 1}, "examples": [{"x": [1.5], "y": "z"}]}',
    json.dumps({"instances": [[[0] * 28] * 28]}).encode(),
)
PATHS = ("/v1/models/images:predict", "/v1/models/images:classify", "/v1/models/images/versions/1:predict",
         "/v1/models/images/labels/stable:regress", "/v1/models/%00:predict", "/v1/models/images/metadata")  # fmt: skip
METHODS = ("Predict", "Classify", "Regress", "MultiInference", "GetModelMetadata")
SPEC = b"\x0a\x08\x0a\x06images"
TENSOR = b"\x12\x1d\x0a\x06inputs\x12\x13\x08\x01\x12\x06\x12\x04\x08\x80\x80\x04\x2a\x04\x00\x00\x80\x3f\x22\x01x"


@dataclass(frozen=True)
class Outcome:
    """What a campaign saw: malformed requests by kind, and statuses beyond those of mistakes."""

    sent: int
    surprises: list[str]


def mutate(data: bytes, noise: random.Random) -> bytes:
    """Change, cut, repeat or nest a part of ``data``."""
    changed = bytearray(data)
    for _ in range(noise.randint(1, 4)):
        at, end = sorted(noise.randrange(len(changed) + 1) for _ in range(2))
        match noise.randrange(6):
            case 0 if changed:
                changed[at % len(changed)] = noise.randrange(256)
            case 1:
                del changed[at:end]
            case 2:
                changed[at:at] = changed[at:end][:2000]
            case 3:
                changed[at:at] = noise.randbytes(noise.randrange(1, 9))
            case 4:
                changed[at:at] = noise.choice((b"[", b'{"a":', b"]")) * noise.choice((1, 70, 3000))
            case _:
                changed[at:end] = noise.choice(
                    (b"1e999", b"-0", b"null", b"true", b'"\\ud800"', b"99999999999999999999")
                )
    return bytes(changed)


def http_bytes(noise: random.Random) -> bytes:
    """A request with a malformed body, or a malformed request."""
    body = mutate(noise.choice(BODIES), noise)
    length = len(body) if noise.random() < 0.9 else noise.choice((-1, 0, 1 << 40, len(body) // 2))
    head = f"{noise.choice(('POST', 'POST', 'POST', 'GET', 'PUT'))} {noise.choice(PATHS)} HTTP/1.1\r\nhost: x\r\n"
    data = f"{head}content-length: {length}\r\nconnection: close\r\n\r\n".encode() + body
    return data if noise.random() < 0.8 else mutate(data, noise)


def send_http(port: int, data: bytes) -> bytes:
    """Send bytes, and read until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as channel:
        found = b""
        with contextlib.suppress(ConnectionError):
            channel.sendall(data)
            channel.shutdown(socket.SHUT_WR)
            while more := channel.recv(1 << 16):
                found += more
        return found


def attack_http(port: int, count: int, noise: random.Random) -> Outcome:
    """Send malformed HTTP; only answers to requests and mistakes are no surprise."""
    surprises = []
    for _ in range(count):
        data = http_bytes(noise)
        found = send_http(port, data)
        status = found[9:12]
        if found and status not in (b"200", b"400", b"404", b"413", b"431", b"429", b"501"):
            surprises.append(f"{found[:80]!r} for {data[:200]!r}")
    return Outcome(count, surprises)


def attack_grpc(port: int, count: int, noise: random.Random) -> Outcome:
    """Send malformed messages; only the codes of mistakes are no surprise."""
    import grpc

    allowed = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"}
    surprises = []
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        calls: list[Callable[..., Any]] = [
            channel.unary_unary(f"/tensorflow.serving.PredictionService/{name}") for name in METHODS
        ]
        for _ in range(count):
            data = mutate(SPEC + TENSOR, noise)
            try:
                noise.choice(calls)(data, timeout=60)
            except grpc.RpcError as error:
                if error.code().name not in allowed:
                    surprises.append(f"{error.code().name} {error.details()} for {data[:200]!r}")
    return Outcome(count, surprises)


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def open_files(pid: int) -> int:
    """Open files of a process."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _campaign(server: Any, count: int) -> Iterator[str]:
    front = min(server.descendants("saman.serving.front"))  # the other waits to replace it
    attack_http(server.port, 500, random.Random(1))
    before, files = resident_bytes(front), open_files(front)
    for name, port, attack in (("HTTP", server.port, attack_http), ("gRPC", server.grpc_port, attack_grpc)):
        found = attack(port, count // 2, random.Random(2))
        yield f"{found.sent} malformed requests over {name}: {len(found.surprises)} surprises {found.surprises[:5]}"
    grown, still = resident_bytes(front) - before, front in server.descendants("saman.serving.front")
    yield f"the front grew by {grown / 1e6:.1f} MB, open files {files} to {open_files(front)}, same process: {still}"
    if not still or grown > 50e6 or open_files(front) > files + 5:
        raise SystemExit("the server crashed or leaks")


def main(count: int) -> None:
    """Run the campaign on a server of a small model."""
    sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "registry")]
    import subprocess

    from registry_kit import finished_run
    from serving_kit import live_server

    from saman.registry.lifecycle.promotion import promote
    from saman.registry.lifecycle.publish import publish

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run, made = finished_run(folder, model="images"), folder / "made"
        program = Path(__file__).parents[1] / "registry" / "make_export.py"
        subprocess.run([sys.executable, str(program), str(made), "digits", "50", "0"], check=True)
        import shutil

        shutil.rmtree(run.export)
        shutil.copytree(made, run.export)
        publish(run, folder / "models")
        promote(folder / "models", "images:1")
        with live_server(folder / "models", "images", "--engine", "openvino") as server:
            for line in _campaign(server, count):
                print(line, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
