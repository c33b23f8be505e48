"""The shipped alert rules: each fires when it should, and an alert reaches somebody live, and resolves."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from runs_to_watch import PROGRESS, running

from saman.configs.schemas.monitoring import Metrics
from saman.launcher.monitoring import monitor as monitor_file
from saman.launcher.monitoring.monitor import Monitor
from saman.launcher.supervision.views import SilentView
from saman.runs.events import EventKind

RULES = Path(monitor_file.__file__).resolve().parent / "alerts" / "saman.rules.yaml"
HERE = Path(__file__).parent

pytestmark = pytest.mark.prometheus


def test_every_rule_fires_when_it_should_and_not_before(tmp_path: Path) -> None:
    test = tmp_path / "test.yaml"
    test.write_text(f"rule_files: [{RULES}]\n" + (HERE / "saman.rules.test.yaml").read_text())
    done = subprocess.run(["promtool", "test", "rules", str(test)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    named = {line.split(": ", 1)[1] for line in RULES.read_text().splitlines() if "- alert: " in line}
    assert all(test.read_text().count(f"alertname: {name}") >= 2 for name in named)


class Received:
    """The alerts that Alertmanager posts."""

    def __init__(self) -> None:
        seen: list[tuple[str, str]] = []
        self.alerts = seen

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                seen.extend((alert["labels"]["alertname"], alert["status"]) for alert in body["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def free_ports(count: int) -> list[int]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) for _ in range(count)]
    ports = [server.server_address[1] for server in servers]
    for server in servers:
        server.server_close()
    return ports


@contextmanager
def started(folder: Path, *commands: list[str]) -> Iterator[None]:
    with (folder / "output").open("w") as output:
        processes = [subprocess.Popen(command, stdout=output, stderr=output, cwd=folder) for command in commands]
        try:
            yield
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(30)


def wait(condition: Callable[[], bool], folder: Path) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, (folder / "output").read_text()[-3000:]
        time.sleep(0.2)


def test_an_alert_fires_and_resolves_through_prometheus_and_alertmanager(tmp_path: Path) -> None:
    run = running(tmp_path)
    said: list[str] = []
    view = SilentView()
    view.say = said.append  # type: ignore[method-assign]
    monitor = Monitor(run, Metrics(port=0), view)
    monitor.progress(PROGRESS)
    received = Received()
    target = said[0].split("//")[1].partition("/")[0]
    alerting, own = (f"127.0.0.1:{port}" for port in free_ports(2))
    hook = f"http://127.0.0.1:{received.server.server_address[1]}/"
    (tmp_path / "alertmanager.yaml").write_text(
        f"route: {{receiver: test, group_wait: 0s, group_interval: 1s}}\n"
        f"receivers: [{{name: test, webhook_configs: [{{url: '{hook}', send_resolved: true}}]}}]\n"
    )
    (tmp_path / "prometheus.yaml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: ['{RULES}']\n"
        f"alerting: {{alertmanagers: [{{static_configs: [{{targets: ['{alerting}']}}]}}]}}\n"
        f"scrape_configs: [{{job_name: saman, static_configs: [{{targets: ['{target}']}}]}}]\n"
    )
    alertmanager = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager") or "alertmanager"
    commands = (
        [alertmanager, "--config.file=alertmanager.yaml", "--storage.path=alerts", "--cluster.listen-address=",
         f"--web.listen-address={alerting}"],
        ["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data", f"--web.listen-address={own}"],
    )  # fmt: skip
    try:
        with started(tmp_path, *commands):
            run.append(EventKind.STALLED, "supervisor", 1, rank=0, phase="train", seconds=120.0)
            wait(lambda: ("SamanStalled", "firing") in received.alerts, tmp_path)
            run.append(EventKind.STALL_OVER, "supervisor", 1)
            wait(lambda: ("SamanStalled", "resolved") in received.alerts, tmp_path)
        assert {name for name, _ in received.alerts} == {"SamanStalled"}  # nothing else is wrong with this run
    finally:
        monitor.close()
        received.server.shutdown()
