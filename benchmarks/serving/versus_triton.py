"""Requests per second, latency and memory beside Triton's server, with the same OpenVINO model on the same cores.

``python benchmarks/serving/versus_triton.py [--seconds 5] [--rounds 3]``. Triton comes from ``nvidia-pytriton`` into an
environment of its own in saman's cache; its Python backend runs OpenVINO with Triton's dynamic batching. Both answer
the same image: saman as JSON over REST (TensorFlow Serving's interface), Triton as JSON and as binary over its own
HTTP interface. The rounds alternate, so that both see the same machine. A load generator shares the cores.
``--perf-analyzer FILE`` adds gRPC, with the load of ``perf_analyzer`` (from ``tritonclient==2.47.0``).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT), str(Path(__file__).parent)]

from load import Measured, http_request, measure  # noqa: E402

from saman.runs.caches import cache_folder  # noqa: E402

GRPC = 50  # between the ports of REST and gRPC
PACKAGES = ("nvidia-pytriton==0.7.0", "openvino>=2025.2")
MODEL = """
import keras, tensorflow as tf, sys
def save(place):
    net = keras.Sequential([keras.Input((28, 28)), keras.layers.Reshape((28, 28, 1)),
        keras.layers.Conv2D(16, 3, activation="relu"), keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(32, 3, activation="relu"), keras.layers.MaxPooling2D(), keras.layers.Flatten(),
        keras.layers.Dense(64, activation="relu"), keras.layers.Dense(10, activation="softmax")])
    module = tf.Module()
    module.net = net
    module.serve = tf.function(lambda inputs: {"outputs": net(inputs / 255.0, training=False)},
        input_signature=[tf.TensorSpec([None, 28, 28], tf.float32, name="inputs")])
    tf.saved_model.save(module, place, signatures={"serving_default": module.serve})
for place in sys.argv[1:]:
    save(place)
"""
BACKEND = """
import sys
sys.path[:0] = ["PACKAGES"]  # the stub's Python does not know the environment
import numpy as np, openvino, triton_python_backend_utils as pb

class TritonPythonModel:
    def initialize(self, args):
        core = openvino.Core()
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1,
                   "NUM_STREAMS": 1}
        self.request = core.compile_model(core.read_model("MODEL"), "CPU", options).create_infer_request()
        for size in range(1, 17):
            self.request.infer([np.zeros((size, 28, 28), "float32")])

    def execute(self, requests):
        arrays = [pb.get_input_tensor_by_name(request, "inputs").as_numpy() for request in requests]
        self.request.infer([np.concatenate(arrays) if len(arrays) > 1 else arrays[0]])
        outputs, answers, at = self.request.get_output_tensor(0).data.copy(), [], 0
        for array in arrays:
            answers.append(pb.InferenceResponse([pb.Tensor("outputs", outputs[at : at + len(array)])]))
            at += len(array)
        return answers
"""
CONFIG = """
name: "cnn" backend: "python" max_batch_size: 16
input [{ name: "inputs" data_type: TYPE_FP32 dims: [28, 28] }]
output [{ name: "outputs" data_type: TYPE_FP32 dims: [10] }]
dynamic_batching { } instance_group [{ kind: KIND_CPU count: 1 }]
"""


def make_models(folder: Path, count: int) -> list[Path]:
    """SavedModels of the small CNN with different weights."""
    places = [folder / f"cnn-{number}" for number in range(count)]
    subprocess.run([sys.executable, "-c", MODEL, *map(str, places)], check=True, stderr=subprocess.DEVNULL,
                   env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"})  # fmt: skip
    return places


def triton_environment() -> Path:
    """The environment with Triton, made once."""
    mark = hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:8]
    folder = cache_folder() / "benchmarks" / f"triton-{mark}"
    if not (folder / "whole").exists():
        shutil.rmtree(folder, ignore_errors=True)
        venv.create(folder, with_pip=True)
        subprocess.run([folder / "bin" / "python", "-m", "pip", "install", "-q", *PACKAGES], check=True)
        (folder / "whole").touch()
    return folder


def start_triton(folder: Path, model: Path, port: int) -> subprocess.Popen[bytes]:
    """Triton's server; returns when it is ready."""
    environment = triton_environment()
    place = folder / "triton" / "cnn" / "1"
    place.mkdir(parents=True)
    packages = next((environment / "lib").glob("python3*")) / "site-packages"
    (place / "model.py").write_text(BACKEND.replace("MODEL", str(model)).replace("PACKAGES", str(packages)))
    (place.parent / "config.pbtxt").write_text(CONFIG)
    home = packages / "pytriton" / "tritonserver"
    libraries = ":".join(str(path) for path in (packages / "nvidia_pytriton.libs", home / "lib") if path.exists())
    backends = folder / "backends"  # Triton looks for the stub of its Python backend beside the backend
    shutil.copytree(home / "backends", backends)
    stubs = home / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copy(stubs / "triton_python_backend_stub", backends / "python")
    command = [
        str(home / "bin" / "tritonserver"), f"--model-repository={folder / 'triton'}", f"--http-port={port}",
        f"--grpc-port={port + GRPC}", "--grpc-address=127.0.0.1", "--allow-metrics=false",
        f"--backend-directory={backends}", "--http-address=127.0.0.1",
    ]  # fmt: skip
    environ = {**os.environ, "LD_LIBRARY_PATH": libraries}
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, stderr=(folder / "triton.log").open("wb")
    )
    wait_for(f"http://127.0.0.1:{port}/v2/health/ready", process)
    return process


def start_saman(folder: Path, model: Path, port: int) -> subprocess.Popen[bytes]:
    """``saman serve`` with a registry that holds the model; returns when it is ready."""
    from tests.registry.registry_kit import finished_run

    from saman.registry.lifecycle.publish import publish

    run = finished_run(folder, model="cnn")
    shutil.rmtree(run.export / "saved_model")
    shutil.copytree(model, run.export / "saved_model")
    np.savez(run.export / "validation.npz", inputs=np.zeros((64, 28, 28), "float32"), labels=np.zeros(64, int))
    publish(run, folder / "models")
    command = [sys.executable, "-m", "saman", "serve", "cnn", "--models-dir", str(folder / "models"), "--engine",
               "openvino", "--port", str(port), "--grpc-port", str(port + GRPC)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=(folder / "saman.log").open("wb"))
    wait_for(f"http://127.0.0.1:{port}/healthz", process)
    return process


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.1)
    raise SystemExit(f"no server at {url}")


def memory_megabytes(pid: int) -> float:
    """Proportional memory (PSS) of a process and all below it."""
    children = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry.name))
    total, left = 0, [pid]
    while left:
        each = left.pop()
        left += children.get(each, [])
        try:
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def requests_of_both() -> dict[str, bytes]:
    """The same image for each server, by the name of its row."""
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28))
    tensor = {"name": "inputs", "shape": [1, 28, 28], "datatype": "FP32"}
    compact = {"separators": (",", ":")}
    plain = json.dumps({"inputs": [{**tensor, "data": image.ravel().tolist()}]}, **compact).encode()
    head = json.dumps(
        {
            "inputs": [{**tensor, "parameters": {"binary_data_size": 3136}}],
            "outputs": [{"name": "outputs", "parameters": {"binary_data": True}}],
        },
        **compact,
    ).encode()
    binary = head + image.astype("<f4").tobytes()
    of_triton = f"content-type: application/octet-stream\r\ninference-header-content-length: {len(head)}"
    rows = json.dumps({"instances": image.tolist()}, **compact).encode()
    return {
        "saman REST": http_request("/v1/models/cnn:predict", rows),
        "Triton HTTP, JSON": http_request("/v2/models/cnn/infer", plain),
        "Triton HTTP, binary": http_request("/v2/models/cnn/infer", binary, of_triton),
    }


def measure_grpc(tool: Path, port: int, kind: list[str], clients: int, seconds: float) -> Measured:
    """What perf_analyzer sees over gRPC."""
    with tempfile.NamedTemporaryFile(suffix=".csv") as file:
        command = [
            tool, "-m", "cnn", *kind, "-i", "grpc", "-u", f"127.0.0.1:{port}", "-b", "1", "-f", file.name,
            "--concurrency-range", str(clients), "-p", str(int(1000 * seconds)), "-s", "999", "-r", "3",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise SystemExit(f"perf_analyzer: {done.stdout[-500:]}{done.stderr[-500:]}")
        [row] = csv.DictReader(Path(file.name).read_text().splitlines())
    p50, p99 = (float(row[f"{name} latency"]) / 1000 for name in ("p50", "p99"))
    return Measured(float(row["Inferences/Second"]), p50, p99, 0, int(3 * seconds * float(row["Inferences/Second"])))


def measure_both_grpc(found: dict[tuple[str, int], list[Measured]], tool: Path, port: int, seconds: float) -> None:
    """A round over gRPC."""
    for at, name, kind in (
        (port, "saman gRPC", ["--service-kind", "tfserving", "--shape", "inputs:1,28,28"]),
        (port + 1, "Triton gRPC", ["--shape", "inputs:28,28"]),
    ):
        for clients in (1, 16):
            found.setdefault((name, clients), []).append(measure_grpc(tool, at + GRPC, kind, clients, seconds))


def show(found: dict[tuple[str, int], list[Measured]]) -> None:
    """Print the medians."""
    print("| server | clients | requests/s | p50 ms | p99 ms | errors |\n|---|---|---|---|---|---|")
    for (name, clients), rows in found.items():
        speed, p50, p99 = (statistics.median(getattr(row, key) for row in rows)
                           for key in ("requests_per_second", "p50", "p99"))  # fmt: skip
        print(f"| {name} | {clients} | {speed:.0f} | {p50:.2f} | {p99:.2f} | {sum(row.errors for row in rows)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=18501)
    parser.add_argument("--perf-analyzer", type=Path)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="saman-"))
    servers: list[subprocess.Popen[bytes]] = []
    try:
        [model] = make_models(folder, 1)
        servers = [start_saman(folder, model, options.port), start_triton(folder, model, options.port + 1)]
        found: dict[tuple[str, int], list[Measured]] = {}
        for _ in range(options.rounds):
            for name, request in requests_of_both().items():
                port = options.port + name.startswith("Triton")
                for clients in (1, 16):
                    found.setdefault((name, clients), []).append(measure(port, request, clients, options.seconds))
            if options.perf_analyzer:
                measure_both_grpc(found, options.perf_analyzer, options.port, options.seconds)
        show(found)
        for name, server in zip(("saman", "Triton"), servers, strict=True):
            print(f"memory of {name}: {memory_megabytes(server.pid):.0f} MB")
        print(f"load of the machine: {os.getloadavg()[0]:.1f}, cores: {os.cpu_count()}")
    finally:
        for server in servers:
            server.send_signal(signal.SIGTERM)
        for server in servers:
            server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
