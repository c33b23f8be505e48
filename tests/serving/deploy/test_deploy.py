"""What ``saman serve --print`` renders, judged by the programs that read it."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from saman.configs.errors import UserError
from saman.serving.deploy.haproxy import render_haproxy
from saman.serving.deploy.kubernetes import render_kubernetes
from saman.serving.deploy.service import ServiceCommand, find_target
from saman.serving.deploy.slurm import SERVERS, registered, render_slurm
from saman.serving.deploy.systemd import render_systemd

HOSTILE = "/tmp/a b$(touch x)%h\"q'; $HOME \\ #"
PLAIN = ServiceCommand(
    "digits", "/usr/bin/true", ("serve", "digits", "--models-dir", "/srv/models"), Path("/srv"), Path("/srv/models"),
    health_path="/v1/models/digits",
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Answering(http.server.BaseHTTPRequestHandler):
    """Says which server it is."""

    ready = True

    def do_GET(self) -> None:
        self.send_response(200 if self.server.ready else 503)  # type: ignore[attr-defined]
        self.end_headers()
        self.wfile.write(str(self.server.server_address[1]).encode())

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def two_servers() -> Any:
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering) for _ in range(2)]
    for server in servers:
        server.ready = True  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
    yield servers
    for server in servers:
        server.shutdown()
        server.server_close()


def test_haproxy_accepts_the_configuration(tmp_path: Path) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    for name, service in (("plain", PLAIN), ("odd", replace(PLAIN, health_path='/v1/models/a#b "c" d\\e'))):
        file = tmp_path / name
        file.write_text(render_haproxy(replace(service, servers=("node1:8501", "[::1]:9001/9000"))))
        done = subprocess.run(["haproxy", "-c", "-f", str(file)], capture_output=True, text=True)
        assert done.returncode == 0 or "could not resolve address 'node1'" in done.stderr + done.stdout, done.stderr
    for address in ("node1", "a b:1", "x:0", "x:99999", "x:1\n", "x:1 check"):
        with pytest.raises(UserError, match="address"):
            render_haproxy(replace(PLAIN, servers=(address,)))


def test_haproxy_spreads_requests_and_leaves_out_a_server_that_is_not_ready(tmp_path: Path, two_servers: Any) -> None:
    if shutil.which("haproxy") is None:
        pytest.skip("haproxy is not installed")
    ports = [server.server_address[1] for server in two_servers]
    front, grpc = free_port(), free_port()
    servers = tuple(f"127.0.0.1:{port}/{port}" for port in ports)
    file = tmp_path / "haproxy.cfg"
    file.write_text(render_haproxy(replace(PLAIN, rest_port=front, grpc_port=grpc, servers=servers)))
    proxy = subprocess.Popen(["haproxy", "-db", "-f", str(file)], stderr=subprocess.DEVNULL)
    try:
        both = ask_until(front, set(ports))
        assert min(both.values()) >= 1
        two_servers[0].ready = False
        deadline = time.monotonic() + 60
        while True:
            assert time.monotonic() < deadline, "the server that is not ready still gets requests"
            with contextlib.suppress(urllib.error.HTTPError):  # of the server, until haproxy has noticed
                if set(ask(front, 20)) == {ports[1]}:
                    break
    finally:
        proxy.terminate()
        proxy.wait(30)


def ask(front: int, times: int) -> Counter[int]:
    found: Counter[int] = Counter()
    for _ in range(times):
        with urllib.request.urlopen(f"http://127.0.0.1:{front}/v1/models/digits", timeout=10) as answer:
            found[int(answer.read())] += 1
    return found


def ask_until(front: int, wanted: set[int]) -> Counter[int]:
    deadline = time.monotonic() + 60
    found: Counter[int] = Counter()
    while set(found) != wanted:
        assert time.monotonic() < deadline, found
        try:
            found += ask(front, 4)
        except OSError:
            time.sleep(0.05)
    return found


def test_systemd_accepts_the_unit_and_runs_the_words_as_they_are(tmp_path: Path) -> None:
    hostile = replace(PLAIN, words=("serve", "digits", "--models-dir", HOSTILE), directory=tmp_path)
    text = render_systemd(hostile)
    [line] = [line for line in text.splitlines() if line.startswith("ExecStart=")]
    assert unquoted(line.removeprefix("ExecStart=")) == [hostile.program, *hostile.words]
    with pytest.raises(UserError, match="control character"):
        render_systemd(replace(PLAIN, words=("serve", "a\nExecStartPre=/bin/rm")))
    if shutil.which("systemd-analyze"):
        file = tmp_path / "saman-digits.service"
        file.write_text(text)
        done = subprocess.run(["systemd-analyze", "verify", "--user", str(file)], capture_output=True, text=True,
                              env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})  # fmt: skip
        assert str(file.name) not in done.stderr, done.stderr


def unquoted(line: str) -> list[str]:
    """The words of a command line after systemd.service(5): C escapes in double quotes, ``%%`` and ``$$``."""
    words, at = [], 0
    while at < len(line):
        assert line[at] == '"'
        word, at = "", at + 1
        while line[at] != '"':
            if line[at] == "\\":
                at += 1
            elif line[at] in "%$":
                assert line[at + 1] == line[at], "a specifier or a variable"
                at += 1
            word, at = word + line[at], at + 1
        words.append(word)
        at += 2
    return words


def kubernetes_problems(document: dict[str, Any]) -> list[str]:
    """What Kubernetes' published schema (strict: unknown keys are mistakes) says against a document."""
    schema = json.loads((Path(__file__).parent / "kubernetes-1.31.json").read_text())
    group = {"v1": "core.v1"}.get(document["apiVersion"], document["apiVersion"].replace("/", "."))
    wanted = {**schema, "$ref": f"#/$defs/io.k8s.api.{group}.{document['kind']}"}
    return [error.message for error in jsonschema.Draft202012Validator(wanted).iter_errors(document)]


def test_the_manifest_fits_the_schema_of_kubernetes() -> None:
    for service in (PLAIN, replace(PLAIN, words=("serve", HOSTILE, "--insecure"))):
        documents = list(yaml.safe_load_all(render_kubernetes(service, "1.2.3")))
        assert [kubernetes_problems(document) for document in documents] == [[], [], []]
    deployment, _, autoscaler = documents
    deployment["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["httpget"] = {}
    autoscaler["spec"]["maxReplicas"] = "10"
    assert [len(kubernetes_problems(document)) for document in documents] == [1, 0, 1]


def test_the_parts_of_the_manifest_name_each_other() -> None:
    words = ("serve", "digits", "--host", "127.0.0.1", "--models-dir=/x")
    deployment, service, autoscaler = yaml.safe_load_all(render_kubernetes(replace(PLAIN, words=words), "1.2.3"))
    assert "&id" not in render_kubernetes(PLAIN, "1.2.3")
    template = deployment["spec"]["template"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert selector.items() <= template["metadata"]["labels"].items()
    [container] = template["spec"]["containers"]
    assert container["readinessProbe"]["httpGet"] == {"path": "/v1/models/digits", "port": "rest"}
    assert container["args"] == ["serve", "digits", "--host", "0.0.0.0", "--models-dir", "/models", "--insecure"]
    names = {port["name"] for port in container["ports"]}
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in template["spec"]["volumes"]}
    assert (
        service["spec"]["selector"] == selector and {port["targetPort"] for port in service["spec"]["ports"]} <= names
    )
    target = autoscaler["spec"]["scaleTargetRef"]
    assert target == {"apiVersion": "apps/v1", "kind": "Deployment", "name": deployment["metadata"]["name"]}
    assert autoscaler["spec"]["minReplicas"] <= autoscaler["spec"]["maxReplicas"]
    assert autoscaler["spec"]["metrics"][0]["resource"]["target"]["type"] == "Utilization"


def test_a_manifest_does_not_open_a_protected_server() -> None:
    text = render_kubernetes(replace(PLAIN, words=("serve", "--all", "--tokens", "/t")), "1")
    assert "--insecure" not in text


def test_an_unknown_target_lists_the_known() -> None:
    with pytest.raises(UserError, match="docker"):
        find_target("docker")
    assert find_target("slurm").value == "slurm"


# A server as the script sees it: it answers, and ends on SIGTERM.
SERVER = """#!/usr/bin/env python3
import http.server, signal, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *a): pass
signal.signal(signal.SIGTERM, lambda *a: sys.exit(0))
at = sys.argv.index("--port") + 1
http.server.HTTPServer(("127.0.0.1", int(sys.argv[at])), H).serve_forever()
"""


def stubs(folder: Path) -> tuple[ServiceCommand, dict[str, str]]:
    """A server, and an ``sbatch`` that starts the script on its standard input as the job 2."""
    (folder / "bin").mkdir()
    server, sbatch = folder / "bin" / "saman", folder / "bin" / "sbatch"
    server.write_text(SERVER)
    sbatch.write_text(
        f'#!/bin/bash\n[ "$1" = --parsable ] || exit 1\nprintf %s "$2" > {folder}/options\ncat > {folder}/spooled\n'
        f"SLURM_JOB_ID=2 bash {folder}/spooled > /dev/null 2>&1 &\n"
        f"echo $! > {folder}/successor\necho '2;cluster'\n"
    )
    for file in (server, sbatch):
        file.chmod(0o755)
    models = folder / "models with 'quotes' 5% $(x)"
    models.mkdir()
    service = replace(
        PLAIN, program=str(server), words=("serve", "digits", "--insecure"), directory=folder, models_dir=models
    )
    return service, {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}


def wait_for(fact: Any, what: str) -> None:
    deadline = time.monotonic() + 120
    while not fact():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_a_service_job_hands_over_before_it_ends(tmp_path: Path) -> None:
    service, environment = stubs(tmp_path)
    script = service.models_dir / SERVERS / "digits.sbatch"
    script.parent.mkdir()
    script.write_text(render_slurm(service, drain_seconds=0.1))
    job = subprocess.Popen(["bash", str(script)], env={**environment, "SLURM_JOB_ID": "1"})
    successor = 0
    try:
        wait_for(lambda: len(registered(service.models_dir)) == 1, "the server did not register")
        [first] = registered(service.models_dir)
        script.write_text(f"touch {tmp_path}/pwned\n")  # by somebody else of the group that shares the models
        job.send_signal(10)  # USR1, as Slurm sends it before the time limit
        wait_for(lambda: any(address != first for address in registered(service.models_dir)), "no successor")
        successor = int((tmp_path / "successor").read_text())
        assert job.wait(60) == 0
        [left] = registered(service.models_dir)
        assert left != first
        host, _, ports = left.rpartition(":")
        assert host and ports.partition("/")[0].isdigit()
        assert not (tmp_path / "pwned").exists()
        escaped = str(service.models_dir / SERVERS).replace("%", "%%")  # sbatch(1), "filename pattern"
        assert (tmp_path / "options").read_text() == f"--output={escaped}/digits-%j.log"
        os.kill(successor, 15)  # scancel
        wait_for(lambda: registered(service.models_dir) == (), "the address of an ended server is still there")
    finally:
        job.kill()
        for number in [successor] if successor else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, 15)


def test_a_service_job_is_not_open_by_accident() -> None:
    with pytest.raises(UserError, match="beyond its node"):
        render_slurm(PLAIN)
    text = render_slurm(replace(PLAIN, words=("serve", HOSTILE, "--insecure")))
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
