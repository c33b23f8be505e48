"""`saman serve --slurm` on nodes: it registers, answers, hands over to a successor, and ends when it is cancelled."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.slurm.conftest import Minicluster, until
from tests.slurm.runs import saman

from saman.registry.lifecycle.publish import publish
from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.slow]
NAME = "saman-serve-images"


def test_a_service_job_answers_renews_itself_and_ends(
    minicluster: Minicluster, real_run: Callable[[Path, str], RunFolder]
) -> None:
    home = minicluster.shared / "a 100% service"
    publish(real_run(home, "good"), home / "models")
    servers = home / "models" / ".servers"
    done = saman(home, "serve", "images", "--slurm", "--insecure", "--engine", "openvino", "--hours", "0.5",
                 "--models-dir", str(home / "models"))  # fmt: skip
    assert done.returncode == 0, done.stderr
    first = done.stdout.split()[1].rstrip(":")

    def told() -> str:
        return "\n".join(file.read_text() for file in servers.glob("*.log")) + minicluster.run("squeue").stdout

    def registered() -> dict[str, str]:
        return {file.stem: file.read_text().strip() for file in servers.glob("*.address")}

    try:
        until(lambda: set(registered()) == {f"images-{first}"}, 240, told=told)
        assert version(registered()[f"images-{first}"]) == "1"
        minicluster.run("scancel", "--batch", "--signal=USR1", first)  # what Slurm does before the time limit
        until(lambda: registered() and f"images-{first}" not in registered(), 240, told=told)
        [(successor, address)] = registered().items()
        assert version(address) == "1"
        second = successor.removeprefix("images-")
        until(lambda: "COMPLETED" in minicluster.run("scontrol", "show", "job", first).stdout, 120, told=told)
        assert {file.name for file in servers.glob("*.log")} == {f"images-{first}.log", f"images-{second}.log"}
        assert not list(home.glob("slurm-*.out"))
    finally:
        minicluster.run("scancel", "--name", NAME)
    until(lambda: not registered(), 120, told=told)  # a cancelled service leaves no address behind


def version(address: str) -> str:
    """What a registered server says of itself; its node is this machine under another name."""
    port = address.rpartition(":")[2].partition("/")[0]
    with contextlib.closing(urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/models/images", timeout=60)) as answer:
        [status] = json.load(answer)["model_version_status"]
    assert status["state"] == "AVAILABLE"
    return str(status["version"])
