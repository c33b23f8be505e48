"""A live rollout of a worse version: real models, real requests, feedback; the judge ends it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from serving_kit import LiveServer, live_server

from saman.registry.listing import read_history
from saman.registry.rollout.control import start
from saman.registry.store.layout import ModelFolder
from saman.registry.store.model_state import read_model
from saman.registry.store.rollouts import RolloutOutcome, RolloutState, RolloutStrategy

pytestmark = [pytest.mark.slow, pytest.mark.tensorflow]
MOST_REQUESTS = 4000


@pytest.fixture
def models(tmp_path: Path, served_models: Path) -> Path:
    """Version 1 is stable; version 2 is worse."""
    shutil.copytree(served_models, tmp_path / "models", symlinks=True)
    return tmp_path / "models"


@pytest.fixture
def server(models: Path) -> Iterator[LiveServer]:
    with live_server(models, "images", "--engine", "openvino", "--fronts", "2") as started:
        yield started


def rollout_of(models: Path) -> RolloutState:
    found = read_model(ModelFolder(models, "images")).rollout
    assert found is not None
    return found


def send_labelled(server: LiveServer, models: Path, first: int, count: int) -> None:
    """Requests from the stored sample, each followed by its label, as users of the answer would send it."""
    sample = np.load(models / "images" / "1" / "assets.extra" / "validation.npz")
    for number in range(first, first + count):
        at = number % len(sample["labels"])
        body = {"instances": sample["inputs"][at : at + 1].tolist()}
        status, _ = server.ask("POST", "/v1/models/images:predict", body, {"x-request-id": f"r-{number}"})
        assert status == 200
        feedback = {"request_id": f"r-{number}", "label": int(sample["labels"][at])}
        status, answer = server.post("/v1/models/images:feedback", feedback)
        assert status in (200, 404), answer  # 404: the rollout has just ended


def test_a_worse_version_is_rolled_back_while_it_serves(server: LiveServer, models: Path) -> None:
    rollout = start(models, "images:2", RolloutStrategy.CANARY, traffic=0.5)
    sent = 0
    while rollout_of(models).is_active and sent < MOST_REQUESTS:
        send_labelled(server, models, sent, 50)
        sent += 50
    deadline = time.monotonic() + 60
    while rollout_of(models).is_active and time.monotonic() < deadline:
        time.sleep(0.2)
    ended = rollout_of(models)
    assert (ended.id, ended.outcome) == (rollout.id, RolloutOutcome.ROLLED_BACK), ended
    assert read_model(ModelFolder(models, "images")).assigned == {"stable": 1}
    [entry] = [entry for entry in read_history(models, "images") if entry.text("event") == "end"]
    harmful = {found["metric"] for found in entry.facts["evidence"]["findings"] if found["is_harmful"]}
    assert harmful & {"accuracy", "shift"}, harmful
    status, page = server.get("/rollouts/images")
    assert status == 200 and "rolled back" in page and "<svg" in page
    assert server.default_version() == 1
