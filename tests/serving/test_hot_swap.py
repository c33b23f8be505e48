"""Versions change under load without an error, and what is killed comes back without a wrong answer."""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving_kit import LiveServer, live_server

from saman.registry.lifecycle.promotion import promote
from saman.registry.lifecycle.publish import publish
from saman.registry.lifecycle.rollback import rollback
from saman.runs.folder import RunFolder

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]
VERSIONS = "/v1/models/images/versions"
PREDICT = "/v1/models/images:predict"


@pytest.fixture
def models(tmp_path: Path, served_models: Path) -> Path:
    """A registry of its own: version 1 is stable."""
    shutil.copytree(served_models, tmp_path / "models", symlinks=True)
    return tmp_path / "models"


@pytest.fixture
def swapping(models: Path) -> Iterator[LiveServer]:
    with live_server(models, "images", "--engine", "openvino") as started:
        yield started


class Load:
    """Clients that ask one thing over and over, on connections that they keep, and check each answer."""

    def __init__(self, server: LiveServer, body: bytes, right: list[Any], clients: int = 4) -> None:
        self._server, self._body, self._right = server, body, right
        self._stop = threading.Event()
        self.answers, self.errors, self.wrong = 0, [], []  # type: ignore[var-annotated]
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=60)
        while not self._stop.is_set():
            try:
                connection.request("POST", PREDICT, self._body)
                answer = connection.getresponse()
                value = json.loads(answer.read())
            except (OSError, http.client.HTTPException) as error:
                self.errors.append(repr(error))
                connection.close()
                time.sleep(0.01)
                continue
            if answer.status != 200:
                self.errors.append(f"{answer.status} {value}")
            elif not any(np.allclose(value["predictions"], right, atol=1e-5) for right in self._right):
                self.wrong.append(value)
            self.answers += 1

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def load_of(server: LiveServer, models: Path) -> Load:
    with np.load(models / "images" / "1" / "assets.extra" / "validation.npz") as stored:
        body = json.dumps({"instances": stored["inputs"][:2].tolist()}).encode()
    right = [server.ask("POST", f"/v1/models/images/versions/{number}:predict", body)[1]["predictions"]
             for number in (1, 2)]  # fmt: skip
    assert not np.allclose(*right, atol=1e-3)
    return Load(server, body, right)


def test_labels_move_under_load_without_an_error_and_within_a_second(swapping: LiveServer, models: Path) -> None:
    with load_of(swapping, models) as load:
        for change in range(10):
            number = 2 - change % 2
            promote(models, f"images:{number}")
            swapping.wait(lambda number=number: swapping.default_version() == number)
        rollback(models, "images")
        swapping.wait(lambda: swapping.default_version() == 2)
        before = load.answers
        swapping.wait(lambda: load.answers > before + 20)
    assert (load.errors, load.wrong) == ([], [])


def test_a_new_version_is_loaded_beside_the_old_and_a_pruned_version_leaves(
    swapping: LiveServer, models: Path, real_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    with load_of(swapping, models) as load:
        publish(real_run(tmp_path / "more", "good"), models)
        swapping.wait(lambda: "AVAILABLE" in str(swapping.get("/v1/models/images/versions/3")))
        assert swapping.default_version() == 1
        publish(real_run(tmp_path / "most", "poor"), models)
        swapping.wait(lambda: "AVAILABLE" in str(swapping.get("/v1/models/images/versions/4")))
        swapping.wait(lambda: swapping.get("/v1/models/images/versions/3")[0] == 404)  # neither labelled nor newest
    assert (load.errors, load.wrong) == ([], [])


def test_a_damaged_version_is_not_served_and_the_status_says_why(
    swapping: LiveServer, models: Path, real_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    run = real_run(tmp_path / "more", "poor")
    os.kill(swapping.process.pid, signal.SIGSTOP)
    try:
        version = publish(run, models)
        weights = version.path / "variables" / "variables.data-00000-of-00001"
        damaged = bytearray(weights.read_bytes())
        damaged[len(damaged) // 2] ^= 0xFF
        weights.chmod(0o644)
        weights.write_bytes(damaged)
    finally:
        os.kill(swapping.process.pid, signal.SIGCONT)
    swapping.wait(lambda: "END" in str(swapping.get("/v1/models/images/versions/3")))
    [row] = swapping.get("/v1/models/images/versions/3")[1]["model_version_status"]
    assert "variables" in row["status"]["error_message"] and row["status"]["error_code"] == "UNKNOWN"
    assert swapping.default_version() == 1
    assert swapping.post("/v1/models/images/versions/3:predict", {"instances": [1]})[0] == 404


def test_a_version_damaged_while_it_is_served_goes_on_unchanged(swapping: LiveServer, models: Path) -> None:
    load = load_of(swapping, models)
    for file in (models / "images" / "1").rglob("variables.data*"):
        file.chmod(0o644)
        file.write_bytes(bytes(len(file.read_bytes())))
    with load:
        for pid in swapping.descendants("saman.serving.engines"):
            os.kill(pid, signal.SIGKILL)  # what replaces them loads the verified copy
        before = load.answers
        swapping.wait(lambda: load.answers > before + 20)
    assert (load.errors, load.wrong) == ([], [])


def test_killed_engines_and_fronts_come_back_without_a_wrong_answer(models: Path) -> None:
    with live_server(models, "images", "--engine", "openvino", "--isolate") as server, load_of(server, models) as load:
        for _ in range(3):
            for pid in server.descendants("saman.serving.engines"):
                os.kill(pid, signal.SIGKILL)
            before = load.answers
            server.wait(lambda before=before: load.answers > before + 20)
        assert load.errors == []  # requests under way are computed again
        for front in server.descendants("saman.serving.front"):  # the spare too
            os.kill(front, signal.SIGKILL)
        before = load.answers
        server.wait(lambda: load.answers > before + 20)
    assert load.wrong == []
    assert len(load.errors) <= 2 * 4  # each client may lose the request that the front held, and its connection


def test_a_loader_killed_at_any_moment_neither_stops_nor_changes_answers(
    swapping: LiveServer, models: Path, real_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    noise = random.Random(15)
    with load_of(swapping, models) as load:
        for number in (3, 4, 5):
            publish(real_run(tmp_path / str(number), "poor"), models)
            time.sleep(noise.uniform(0, 0.6))
            for pid in swapping.descendants("saman-check"):
                os.kill(pid, signal.SIGKILL)
            swapping.wait(lambda number=number: "AVAILABLE" in str(swapping.get(f"{VERSIONS}/{number}")))
    assert (load.errors, load.wrong) == ([], [])


def test_a_version_that_is_not_loaded_is_promoted_from_its_checked_copy(
    swapping: LiveServer, models: Path, real_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    for number in (3, 4):
        publish(real_run(tmp_path / str(number), "poor"), models)
    swapping.wait(lambda: "AVAILABLE" in str(swapping.get(f"{VERSIONS}/4")))
    assert swapping.get(f"{VERSIONS}/3")[0] == 404  # neither labelled nor newest
    with load_of(swapping, models) as load:
        promote(models, "images:3")
        swapping.wait(lambda: swapping.default_version() == 3)
    assert (load.errors, load.wrong) == ([], [])


def test_the_end_answers_what_has_arrived(swapping: LiveServer, models: Path) -> None:
    load = load_of(swapping, models)
    body, connections = load._body, []
    for _ in range(8):
        connection = http.client.HTTPConnection("127.0.0.1", swapping.port, timeout=60)
        connection.request("POST", PREDICT, body)
        connections.append(connection)
    assert swapping.stop() == 0
    assert [connection.getresponse().status for connection in connections] == [200] * 8
    assert not any("ended (status" in line for line in swapping.lines)
